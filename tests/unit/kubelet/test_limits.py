"""Numbers for cgroups, and the order and feasibility of resizes: upstream's formulas as tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.allocation import (
    Allocation,
    Policies,
    Waiting,
    allocated,
    allocation_of,
    effective,
    in_order,
    infeasible,
    summary,
    uids,
)
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.limits import (
    Assigned,
    Rules,
    container_resources,
    cpu_weight,
    make_rules,
    milli_of_shares,
    oom_score_adjust,
    page_size_name,
    pod_resources,
    swap_limit,
)
from tiphys.kubelet.machine import Machine
from tiphys.testing.cgroups import FakeCgroups

GIB, MIB = 1 << 30, 1 << 20
V1 = Rules(memory=8 * GIB)
V2 = replace(V1, v2=True, swap_controller=True, swap=4 * GIB, limited_swap=True)
PAGES = replace(V1, page_sizes=(2 * MIB, GIB))


def container(name: str = "c", requests: Any = None, limits: Any = None, **more: Any) -> dict[str, Any]:
    own = {kind: value for kind, value in (("requests", requests), ("limits", limits)) if value}
    return {"name": name, "resources": own, **more}


def pod(*containers: Any, qos: str = "Burstable", init: Any = (), **spec: Any) -> dict[str, Any]:
    found = {"containers": list(containers), **spec} | ({"initContainers": list(init)} if init else {})
    return {"metadata": {"name": "p", "uid": "u"}, "spec": found, "status": {"qosClass": qos}}


def test_weights_are_on_a_line() -> None:
    assert [cpu_weight(shares) for shares in (2, 28, 1024, 262_143, 262_144)] == [1, 1, 39, 9999, 10_000]
    assert [milli_of_shares(shares) for shares in (2, 102, 153, 1024)] == [2, 100, 150, 1000]


def test_names_of_page_sizes() -> None:
    assert [page_size_name(size) for size in (64 << 10, 2 * MIB, GIB)] == ["64KB", "2MB", "1GB"]


def test_quota_and_period_follow_the_configuration() -> None:
    own = container(limits={"cpu": "500m"})
    slow = replace(V1, cfs_period=20_000)
    assert container_resources(pod(own), own, slow).cpu_quota == 10_000
    assert container_resources(pod(own), own, replace(V1, cfs_quota=False)).cpu_quota == 0
    assert pod_resources(pod(own), replace(V1, cfs_quota=False)).cpu_quota == -1
    alone = container_resources(pod(own), own, V1, Assigned("3", "0", True))
    assert (alone.cpu_quota, alone.cpuset_cpus, alone.cpuset_mems) == (-1, "3", "0")
    assert pod_resources(pod(own), V1, exclusive=True).cpu_quota == -1


def test_huge_pages_are_only_for_who_asks() -> None:
    own = container(limits={"hugepages-2Mi": "4Mi"}, requests={"hugepages-2Mi": "4Mi"})
    whole = pod(own, container("d"), resources={"limits": {"hugepages-1Gi": "1Gi"}})
    assert dict(container_resources(whole, own, PAGES).hugepages) == {"2MB": 4 * MIB, "1GB": GIB}
    assert dict(pod_resources(pod(own, container("d")), PAGES).hugepages) == {"2MB": 4 * MIB}
    assert dict(container_resources(pod(own), container("d"), PAGES).hugepages) == {"2MB": 0, "1GB": 0}


def test_what_a_pod_as_a_whole_is_limited_to_holds_for_its_containers() -> None:
    own = container()
    whole = pod(own, resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}})
    found = container_resources(whole, own, V1)
    assert (found.cpu_quota, found.memory_limit) == (200_000, GIB)
    assert pod_resources(whole, V1).memory_limit == GIB


@pytest.mark.parametrize(
    ("memory", "limit", "qos", "swap"),
    [
        ("1Gi", "2Gi", "Burstable", GIB // 2),
        ("1Gi", "1Gi", "Burstable", 0),
        ("", "", "Burstable", 0),
        ("1Gi", "2Gi", "Guaranteed", 0),
        ("16Gi", "20Gi", "Burstable", 0),
    ],
)
def test_burstable_containers_swap_by_what_they_request(memory: str, limit: str, qos: str, swap: int) -> None:
    own = container(requests={"memory": memory} if memory else None, limits={"memory": limit} if limit else None)
    assert swap_limit(pod(own, qos=qos), own, V2) == swap


def test_nobody_swaps_elsewhere() -> None:
    own = container(requests={"memory": "1Gi"}, limits={"memory": "2Gi"})
    assert swap_limit(pod(own), own, V1) is None
    assert swap_limit(pod(own), own, replace(V2, v2=False)) == 0
    assert swap_limit(pod(own, priority=2_000_000_000), own, V2) == 0
    assert swap_limit(pod(own), own, replace(V2, limited_swap=False)) == 0


def test_memory_is_kept_and_throttled_by_request_and_limit() -> None:
    own = container(requests={"memory": "100Mi"}, limits={"memory": "200Mi"})
    rules = replace(V2, memory_qos=True, kill_groups=True)
    files = dict(container_resources(pod(own), own, rules).unified)
    high = str(int((100 + 90) * MIB / 4096) * 4096)
    assert files == {"memory.oom.group": "1", "memory.min": "0", "memory.low": "0", "memory.high": high}
    tiered = replace(rules, tiered_reservation=True)
    assert dict(container_resources(pod(own), own, tiered).unified)["memory.low"] == str(100 * MIB)
    assert dict(pod_resources(pod(own, qos="Guaranteed"), tiered).unified) == {"memory.min": str(100 * MIB)}
    assert container_resources(pod(own), own, V1).unified == ()


@pytest.mark.parametrize(
    ("spec", "qos", "score"),
    [
        ({}, "Guaranteed", -997),
        ({}, "BestEffort", 1000),
        ({}, "Burstable", 875),
        ({"resources": {"requests": {"memory": "3Gi"}}}, "Burstable", 625),
        ({"priorityClassName": "system-node-critical", "priority": 2_000_001_000}, "Burstable", -997),
        ({"priorityClassName": "system-node-critical"}, "Burstable", 875),
    ],
)
def test_who_is_killed_first_when_memory_runs_out(spec: Any, qos: str, score: int) -> None:
    own = container(requests={"memory": "1Gi"})
    assert oom_score_adjust(pod(own, qos=qos, **spec), own, 8 * GIB) == score


def test_a_sidecar_is_not_killed_before_what_it_serves() -> None:
    side = container("s", restartPolicy="Always")
    whole = pod(container(requests={"memory": "4Gi"}), init=[side])
    assert oom_score_adjust(whole, side, 8 * GIB) == 500


def test_rules_are_those_of_the_configuration_and_the_kernel(tmp_path: Path) -> None:
    config = KubeletConfig(
        "n", tmp_path, pod_pids_limit=9, memory_swap_behavior="LimitedSwap", cpu_cfs_quota_period=0.05
    )
    machine = Machine(2, GIB, GIB, swap=MIB, hugepages=((2 * MIB, 0),))
    found = make_rules(config, machine, FakeCgroups(version=2, swap=True))
    assert (found.v2, found.limited_swap, found.kill_groups, found.cfs_period) == (True, True, True, 50_000)
    assert (found.pids_limit, found.swap, found.page_sizes) == (9, MIB, (2 * MIB,))
    assert not make_rules(replace(config, single_process_oom_kill=True), machine, FakeCgroups(version=2)).kill_groups
    assert not make_rules(config, machine, FakeCgroups()).kill_groups


# --- resizes


def named(uid: str, cpu: str, qos: str = "Burstable", priority: int = 0) -> dict[str, Any]:
    limits = {"cpu": cpu, "memory": "1Gi"}
    own = container(requests=limits, limits=limits if qos == "Guaranteed" else None)
    found = pod(own, qos=qos, priority=priority)
    return {**found, "metadata": {"name": uid, "uid": uid}}


def test_resizes_are_served_in_order() -> None:
    waiting = [
        Waiting(named("late", "2"), named("late", "1"), 20),
        Waiting(named("early", "2"), named("early", "1"), 10),
        Waiting(named("new", "2"), named("new", "1")),
        Waiting(named("guaranteed", "2", "Guaranteed"), named("guaranteed", "1", "Guaranteed"), 30),
        Waiting(named("important", "2", priority=5), named("important", "1"), 40),
        Waiting(named("shrinks", "1"), named("shrinks", "2"), 50),
    ]
    assert uids(in_order(waiting)) == ["shrinks", "important", "guaranteed", "early", "late", "new"]


def test_what_is_granted_takes_the_place_of_what_is_asked_for() -> None:
    asked = named("a", "2")
    assert allocated(asked, allocation_of(asked)) is asked
    granted = Allocation({"c": {"requests": {"cpu": "1", "memory": "1Gi"}}})
    assert allocated(asked, granted)["spec"]["containers"][0]["resources"] == granted.containers["c"]
    same = Allocation({"c": {"requests": {"cpu": "2000m", "memory": "1024Mi"}}})
    assert allocated(asked, same) is asked
    whole = {**asked, "spec": {**asked["spec"], "resources": {"limits": {"cpu": "3"}}}}
    assert "resources" not in allocated(whole, Allocation())["spec"]


def test_exclusive_cpus_and_memory_are_not_resized() -> None:
    asked, granted = named("a", "2", "Guaranteed"), named("a", "1", "Guaranteed")
    assert infeasible(asked, granted, Policies()) == ""
    text = 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'
    assert infeasible(asked, granted, Policies(cpu="static")) == text
    assert infeasible(asked, granted, Policies(memory="Static")) == ""
    assert infeasible(named("a", "2"), named("a", "1"), Policies(cpu="static")) == ""


def test_memory_of_who_swaps_is_not_resized() -> None:
    def swapping(memory: str, *policies: str) -> dict[str, Any]:
        more = [{"resourceName": "memory", "restartPolicy": policy} for policy in policies]
        return pod(container(requests={"memory": memory}, limits={"memory": "2Gi"}, resizePolicy=more))

    text = "In-place resize of containers with swap is not supported."
    assert infeasible(swapping("1Gi"), swapping("512Mi"), Policies(swaps=True)) == text
    assert infeasible(swapping("1Gi"), swapping("512Mi"), Policies()) == ""
    restarted = swapping("512Mi", "RestartContainer")
    assert infeasible(swapping("1Gi"), restarted, Policies(swaps=True)) == ""


def test_others_count_with_what_they_still_have() -> None:
    status = {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "3", "memory": "512Mi"}}}]}
    found = effective(named("a", "2"), status)["spec"]["containers"][0]["resources"]["requests"]
    assert found == {"cpu": "3", "memory": "1Gi"}


def test_events_are_written_as_go_writes_json() -> None:
    own = container(requests={"memory": "1Gi", "cpu": "1"}, limits={"cpu": "2"})
    text = summary("Pod resize error", pod(own, init=[container("i")]), 4, "a < b")
    assert text == (
        'Pod resize error: {"initContainers":[{"name":"i","resources":{}}],"containers":[{"name":"c","resources":'
        '{"limits":{"cpu":"2"},"requests":{"cpu":"1","memory":"1Gi"}}}],"generation":4,"error":"a \\u003c b"}'
    )
