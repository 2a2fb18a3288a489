from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.node_health import EvictionPolicy, Health, silent, with_taints
from tiphys.controllers.node_ipam import next_free
from tiphys.controllers.nodes import selects_node, tolerates, untolerated
from tiphys.controllers.taint_eviction import patience

NOW = 1_767_225_600.0


def node(name: str = "n", ready: str = "True", taints: list[Any] | None = None, **labels: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "t1"}] if ready else []
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints or []},
        "status": {"conditions": conditions},
    }


def lease(renewed: str) -> dict[str, Any]:
    return {"spec": {"renewTime": renewed}}


def test_a_renewed_lease_or_a_new_heartbeat_is_a_sign_of_life() -> None:
    health = Health(0.0).seen(node(), lease("a"), 10.0)
    assert health.seen(node(), lease("a"), 20.0).at == 10.0
    assert health.seen(node(), lease("b"), 20.0).at == 20.0
    assert health.left(node(), 50, 60, 30.0) == 30.0
    assert health.left(node(ready=""), 50, 60, 30.0) == 40.0


def test_silence_makes_every_condition_unknown_once() -> None:
    conditions = silent(node(), NOW)
    assert conditions is not None
    assert {each["status"] for each in conditions} == {"Unknown"}
    assert [each["reason"] for each in conditions] == ["NodeStatusUnknown"] + ["NodeStatusNeverUpdated"] * 3
    assert silent({**node(), "status": {"conditions": conditions}}, NOW) is None


def keys(taints: Any) -> list[str] | None:
    return None if taints is None else [f"{each['key'].rpartition('/')[2]}:{each['effect']}" for each in taints]


MINE = {"key": "example.com/mine", "effect": "NoExecute"}
EXECUTE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("held", "add", "keep", "expected"),
    [
        (node(), True, True, None),
        (node(taints=[MINE]), True, True, None),
        (node(ready="False"), True, True, ["not-ready:NoSchedule", "not-ready:NoExecute"]),
        (node(ready="Unknown"), False, True, ["unreachable:NoSchedule"]),
        (
            node(ready="Unknown", taints=[MINE]),
            True,
            True,
            ["mine:NoExecute", "unreachable:NoSchedule", "unreachable:NoExecute"],
        ),
        (node(ready="Unknown", taints=[EXECUTE]), False, True, ["unreachable:NoExecute", "unreachable:NoSchedule"]),
        (node(ready="Unknown", taints=[EXECUTE]), False, False, ["unreachable:NoSchedule"]),
        (node(taints=[MINE, EXECUTE]), True, True, ["mine:NoExecute"]),
    ],
)
def test_taints_follow_readiness(held: dict[str, Any], add: bool, keep: bool, expected: list[str] | None) -> None:
    assert keys(with_taints(held, NOW, add=add, keep=keep)) == expected


def test_a_cordoned_node_is_tainted_too() -> None:
    held = node()
    held["spec"]["unschedulable"] = True
    assert keys(with_taints(held, NOW, add=True, keep=True)) == ["unschedulable:NoSchedule"]


def test_evictions_slow_down_and_stop_as_more_nodes_are_lost() -> None:
    policy = EvictionPolicy()

    def interval(ready: int, lost: int) -> float | None:
        return policy.interval([node()] * ready + [node(ready="Unknown")] * lost, "/")

    assert interval(3, 1) == 10
    assert interval(0, 3) is None
    assert interval(2, 3) is None
    assert interval(30, 60) == 100


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}, True),
    ],
)
def test_tolerations(toleration: dict[str, Any], expected: bool) -> None:
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert tolerates(toleration, taint) is expected
    assert (untolerated({"tolerations": [toleration]}, [taint], ("NoExecute",)) is None) is expected


def test_patience_is_the_shortest_toleration_of_any_taint() -> None:
    taints = [{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]
    a, b = {"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists", "tolerationSeconds": 30}
    assert patience([a], taints) == 0
    assert patience([a, b], taints) == 30
    assert patience([a, {**b, "tolerationSeconds": None}], taints) is None


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"key": "disk", "operator": "In", "values": ["ssd"]}, True),
        ({"key": "disk", "operator": "NotIn", "values": ["ssd"]}, False),
        ({"key": "gpu", "operator": "DoesNotExist"}, True),
        ({"key": "cores", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["4"]}, False),
    ],
)
def test_node_affinity(expression: dict[str, Any], expected: bool) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert selects_node(spec, node(disk="ssd", cores="8")) is expected


def test_ranges_fill_gaps_and_run_out() -> None:
    from ipaddress import ip_network

    cluster = ip_network("10.244.0.0/22")
    assert str(next_free(cluster, 24, ["10.244.0.0/24", "10.244.2.0/24"])) == "10.244.1.0/24"
    assert str(next_free(cluster, 24, ["10.244.0.128/25", "10.0.0.0/24"])) == "10.244.1.0/24"
    assert next_free(cluster, 24, [f"10.244.{number}.0/24" for number in range(4)]) is None
