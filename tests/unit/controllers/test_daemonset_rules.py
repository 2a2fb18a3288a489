"""DaemonSets: where pods belong, what an update replaces, what the status says."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.daemonset import Decision, by_node, new_status, place, roll
from tiphys.controllers.daemonset_backoff import LONGEST, FailedPodBackoff
from tiphys.controllers.daemonset_pods import (
    GENERATION,
    daemon_pod,
    placement,
    should_run,
    target_node,
    tolerations,
    updated,
)

NOW = 1_767_225_600.0
NODES = ("a", "b", "c", "d")


def node(name: str, taint: str = "", effect: str = "NoSchedule", **labels: str) -> dict[str, Any]:
    taints = [{"key": taint, "effect": effect}] if taint else []
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}


def daemon_set(surge: Any = 0, unavailable: Any = 1, template: Any = None, **spec: Any) -> dict[str, Any]:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "ds", "namespace": "default", "uid": "u", "generation": 2},
        "spec": {
            "template": {"metadata": {"labels": {"app": "ds"}}, "spec": {"containers": [], **(template or {})}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            **spec,
        },
    }


def pod(
    name: str, on: str, digest: str = "new", phase: str = "Running", age: float = 100, **meta: Any
) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
    stamp = rfc3339(NOW - age)
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"controller-revision-hash": digest},
            "creationTimestamp": stamp,
            **meta,
        },
        "spec": {"nodeName": on},
        "status": {
            "phase": "Running" if phase == "Unready" else phase,
            "conditions": [{**ready, "lastTransitionTime": stamp}],
        },
    }


GOING: dict[str, Any] = {"deletionTimestamp": rfc3339(NOW)}


def shown(decision: Decision) -> tuple[list[str], list[str]]:
    return sorted(decision.create), sorted(each["metadata"]["name"] for each in decision.delete)


def placed(wanted: Any, pods: list[Any], nodes: Any = NODES) -> tuple[list[str], list[str]]:
    return shown(place(wanted, [node(each) for each in nodes], by_node(pods), "new", NOW))


@pytest.mark.parametrize(
    ("pods", "create", "delete"),
    [
        ([], ["a", "b", "c", "d"], []),
        ([pod("1", "a"), pod("2", "a", age=50), pod("3", "b")], ["c", "d"], ["2"]),
        ([pod("1", "a", phase="Failed"), pod("2", "b", phase="Succeeded")], ["c", "d"], ["1", "2"]),
        ([pod("1", "a", **GOING), pod("2", "b", phase="Failed", **GOING)], ["b", "c", "d"], []),
        ([pod("1", "gone")], ["a", "b", "c", "d"], []),
    ],
)
def test_each_node_has_one_pod_the_oldest(pods: list[Any], create: list[str], delete: list[str]) -> None:
    assert placed(daemon_set(), pods) == (create, delete)


def test_a_pod_that_waits_for_a_node_that_is_gone_is_deleted() -> None:
    waiting = {**daemon_pod(daemon_set(), "gone", "new"), "status": {"phase": "Pending"}}
    waiting["metadata"] = {**waiting["metadata"], "name": "1"}
    assert target_node(waiting) == "gone"
    assert placed(daemon_set(), [waiting], ()) == ([], ["1"])


@pytest.mark.parametrize(
    ("template", "where", "runs"),
    [
        ({}, node("a"), (True, True)),
        ({"nodeName": "b"}, node("a"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("a"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("a", disk="ssd"), (True, True)),
        ({}, node("a", "mine"), (False, True)),
        ({}, node("a", "mine", "NoExecute"), (False, False)),
        ({}, node("a", "mine", "PreferNoSchedule"), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, node("a", "mine", "NoExecute"), (True, True)),
        ({}, node("a", "node.kubernetes.io/unreachable", "NoExecute"), (True, True)),
        ({}, node("a", "node.kubernetes.io/unschedulable"), (True, True)),
        ({}, node("a", "node.kubernetes.io/network-unavailable"), (False, True)),
        ({"hostNetwork": True}, node("a", "node.kubernetes.io/network-unavailable"), (True, True)),
    ],
)
def test_where_daemon_pods_run(template: Any, where: Any, runs: tuple[bool, bool]) -> None:
    assert should_run(placement(daemon_set(template=template)), where) == runs


def test_pods_leave_nodes_that_they_no_longer_belong_on() -> None:
    wanted = daemon_set(template={"nodeSelector": {"disk": "ssd"}})
    nodes = [node("a", disk="ssd"), node("b")]
    pods = [pod("1", "a"), pod("2", "b"), pod("3", "b", **GOING)]
    assert shown(place(wanted, nodes, by_node(pods), "new", NOW)) == ([], ["2"])


def test_a_toleration_for_some_time_gives_way_to_the_lasting_one() -> None:
    short = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    own = {"key": "mine", "operator": "Exists"}
    made = tolerations({"tolerations": [short, own]})
    assert made[:2] == [{key: short[key] for key in ("key", "operator", "effect")}, own]
    assert len(made) == 7


def rolled(wanted: Any, pods: list[Any]) -> tuple[list[str], list[str]]:
    return shown(roll(wanted, [node(each) for each in NODES], by_node(pods), "new", NOW))


OLD = [pod(each, each, "old") for each in NODES]


@pytest.mark.parametrize(
    ("unavailable", "pods", "delete"),
    [
        (1, OLD, ["a"]),
        ("50%", OLD, ["a", "b"]),
        ("26%", OLD, ["a", "b"]),
        (2, [pod("a", "a", phase="Unready"), *OLD[1:]], ["b"]),
        (1, [pod("a", "a", phase="Unready"), *OLD[1:]], []),
        (1, [pod("a", "a", **GOING), *OLD[1:]], []),
        (1, OLD[1:], []),
        (1, [pod("a", "a", "old", "Unready"), *OLD[1:]], ["a"]),
        (1, [pod("a", "a", "old", "Unready"), pod("b", "b", "old", "Unready"), *OLD[2:]], ["a", "b"]),
        (0, OLD, ["a"]),
    ],
)
def test_an_update_deletes_within_max_unavailable(unavailable: Any, pods: list[Any], delete: list[str]) -> None:
    assert rolled(daemon_set(unavailable=unavailable), pods) == ([], delete)


@pytest.mark.parametrize(
    ("pods", "create", "delete"),
    [
        (OLD, ["a"], []),
        ([*OLD, pod("a2", "a", phase="Unready")], [], []),
        ([*OLD, pod("a2", "a")], ["b"], ["a"]),
        ([pod("a", "a", "old", "Unready"), *OLD[1:]], ["a", "b"], []),
    ],
)
def test_an_update_with_surge_creates_before_it_deletes(pods: list[Any], create: list[str], delete: list[str]) -> None:
    assert rolled(daemon_set(surge=1, unavailable=0), pods) == (create, delete)


def test_with_surge_a_pod_where_it_may_not_be_goes_when_another_can_stand_in() -> None:
    wanted = daemon_set(surge=1, unavailable=0, template={"nodeSelector": {"disk": "ssd"}})
    nodes = [node("a"), node("b", disk="ssd")]
    alone = [pod("1", "a", "old"), pod("2", "b", phase="Unready")]
    assert shown(roll(wanted, nodes, by_node(alone), "new", NOW)) == ([], [])
    both = [pod("1", "a", "old"), pod("2", "b")]
    assert shown(roll(wanted, nodes, by_node(both), "new", NOW)) == ([], ["1"])


def test_with_surge_the_old_pod_goes_once_it_is_broken_or_the_new_one_available() -> None:
    wanted = daemon_set(surge=1, unavailable=0, minReadySeconds=60)
    for old, new, delete in (
        ("Running", pod("n", "a", age=10), []),
        ("Running", pod("n", "a", age=70), ["o"]),
        ("Unready", pod("n", "a", phase="Unready"), ["o"]),
    ):
        assert placed(wanted, [pod("o", "a", "old", old), new], ["a"]) == ([], delete)


def test_on_delete_replaces_nothing() -> None:
    assert rolled(daemon_set(updateStrategy={"type": "OnDelete"}), OLD) == ([], [])


def test_a_status_counts_the_nodes() -> None:
    nodes = [*(node(each) for each in NODES), node("tainted", "mine")]
    pods = [pod("1", "a"), pod("2", "b", "old"), pod("3", "c", phase="Unready"), pod("4", "tainted")]
    assert new_status(daemon_set(), nodes, by_node(pods), "new", 2, NOW) == {
        "currentNumberScheduled": 3,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 4,
        "numberReady": 2,
        "observedGeneration": 2,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
        "numberUnavailable": 2,
    }


@pytest.mark.parametrize(("text", "same"), [("3", True), ("4", False), ("three", False), ("²", False)])
def test_pods_of_the_deprecated_template_generation_are_up_to_date(text: str, same: bool) -> None:
    wanted = daemon_set()
    wanted["metadata"]["annotations"] = {GENERATION: text}
    old_style = pod("1", "a", "")
    old_style["metadata"]["labels"] = {"pod-template-generation": "3"}
    assert updated(wanted, old_style, "new") is same


def test_failed_pods_wait_twice_as_long_each_time_until_they_are_well_for_long() -> None:
    backoff, here, there = FailedPodBackoff(), ("u", 1, "a"), ("u", 1, "b")
    assert backoff.wait(here, 0) == 0
    now, waits = 0.0, []
    for _ in range(12):
        backoff.failed(here, now)
        waits.append(backoff.wait(here, now))
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert backoff.wait(there, now) == 0
    backoff.failed(here, now + 2 * LONGEST + 1)
    assert backoff.wait(here, now + 2 * LONGEST + 1) == 1
