"""Who makes room for a critical pod, and what speaks against a pod at all."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.kubelet.admission import judge
from tiphys.kubelet.preemption import NoVictims, victims

CRITICAL = 2_000_000_000


def pod(
    name: str, cpu: str = "", memory: str = "", *, limits: bool = False, priority: int | None = 0
) -> dict[str, Any]:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    resources = {"requests": requests} | ({"limits": requests} if limits else {})
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i", "resources": resources}]}
    if priority is not None:
        spec["priority"] = priority
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


BEST = pod("best")
SMALL, LARGE = pod("small", "100m", "100Mi"), pod("large", "300m", "300Mi")
SURE = pod("sure", "100m", "100Mi", limits=True)
SURE_LARGE = pod("sure-large", "400m", "400Mi", limits=True)
ALL = [BEST, SMALL, LARGE, SURE, SURE_LARGE]


@pytest.mark.parametrize(
    ("others", "missing", "gone"),
    [
        (ALL, {"pods": 1}, ["best"]),
        (ALL, {"cpu": 50}, ["small"]),
        (ALL, {"cpu": 100, "memory": 100 << 20}, ["small"]),
        (ALL, {"memory": 200 << 20}, ["large"]),
        (ALL, {"memory": 400 << 20}, ["large", "small"]),
        (ALL, {"memory": 450 << 20}, ["large", "small", "sure"]),
        (ALL, {"memory": 700 << 20}, ["large", "sure-large"]),
        ([SURE, SMALL], {"cpu": 100}, ["small"]),
        ([SURE], {"cpu": 100}, ["sure"]),
    ],
)
def test_the_cheapest_pods_go_first(others: list[Any], missing: dict[str, int], gone: list[str]) -> None:
    found = victims(pod("critical", priority=CRITICAL), others, missing)
    assert [one["metadata"]["name"] for one in found] == gone


def test_critical_pods_do_not_go_for_each_other() -> None:
    other = pod("other", "1", priority=CRITICAL)
    with pytest.raises(NoVictims, match=r"no set of running pods found to reclaim resources: \[\(res: cpu, q: 5\), \]"):
        victims(pod("critical", priority=CRITICAL), [other], {"cpu": 5})
    assert victims(pod("critical", priority=CRITICAL + 1000), [other], {"cpu": 5}) == [other]


NODE = {
    "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
    "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]},
    "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}},
}
TOLERATING = {"tolerations": [{"operator": "Exists"}]}


def asked(**spec: Any) -> dict[str, Any]:
    made = pod("asks", "600m", "2Gi")
    made["spec"] |= TOLERATING | spec
    return made


def test_all_that_is_missing_is_told_and_the_first_is_the_reason() -> None:
    verdict = judge(asked(), NODE, [pod("a", "600m"), pod("b")])
    assert verdict.refusal == (
        "OutOfpods",
        "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2",
    )
    assert verdict.missing == {"pods": 1, "cpu": 200, "memory": 1 << 30}


def test_preemption_does_not_help_against_another_reason() -> None:
    verdict = judge(asked(nodeSelector={"disk": "ssd"}, priority=CRITICAL), NODE, [])
    assert verdict.missing == {}
    assert verdict.refusal is not None
    assert verdict.refusal[0] == "NodeAffinity"


def test_static_pods_do_not_mind_taints() -> None:
    own = pod("own")
    assert judge(own, NODE, []).refusal == (
        "TaintToleration",
        "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
    )
    own["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    assert judge(own, NODE, []).refusal is None


def test_a_label_that_names_another_system_is_refused() -> None:
    other = pod("other")
    other["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    refusal = judge(other, NODE, []).refusal
    assert refusal is not None
    assert refusal[0] == "PodOSSelectorNodeLabelDoesNotMatch"
