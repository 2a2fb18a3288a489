from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.node_health import Execution, Health, next_check, silent, with_taints
from tiphys.controllers.nodes import selects_node, tolerates, untolerated

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
    health = Health(0.0).seen(node(), lease("2026-01-01T00:00:00Z"), 10.0)
    assert health.seen(node(), lease("2026-01-01T00:00:00Z"), 20.0).at == 10.0
    assert health.seen(node(), lease("2025-12-31T00:00:00Z"), 20.0).at == 10.0
    assert health.seen(node(), lease("2026-01-01T00:00:01Z"), 20.0).at == 20.0
    assert health.seen(node(ready=""), lease("2026-01-01T00:00:00Z"), 20.0).at == 20.0
    assert health.left(node(), 50, 60, 30.0) == 30.0
    assert health.left(node(ready=""), 50, 60, 30.0) == 40.0


def test_a_node_that_never_posted_a_status_is_silent_since_it_was_made() -> None:
    bare = node(ready="")
    bare["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    assert Health.first(bare, 1000.0, NOW + 45).left(bare, 50, 60, 1000.0) == 15.0
    assert Health.first(node(), 1000.0, NOW + 45).left(node(), 50, 60, 1000.0) == 50.0


@pytest.mark.parametrize(("left", "now", "expected"), [(3.0, 20.0, 5.0), (5.0, 20.0, 10.0), (0.0, 22.0, 3.0)])
def test_checks_are_regular_and_come_after_the_moment(left: float, now: float, expected: float) -> None:
    assert next_check(left, now, 5.0) == expected


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
EXECUTE_TEXT = "unreachable:NoExecute"


KEEP, ADD, REMOVE = Execution.KEEP, Execution.ADD, Execution.REMOVE
OPPOSITE = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("held", "execution", "expected"),
    [
        (node(), REMOVE, None),
        (node(taints=[MINE]), REMOVE, None),
        (node(ready=""), KEEP, None),
        (node(ready="False"), ADD, ["not-ready:NoSchedule", "not-ready:NoExecute"]),
        (node(ready="Unknown"), KEEP, ["unreachable:NoSchedule"]),
        (node(ready="Unknown", taints=[MINE]), ADD, ["mine:NoExecute", "unreachable:NoSchedule", EXECUTE_TEXT]),
        (node(ready="Unknown", taints=[EXECUTE]), KEEP, [EXECUTE_TEXT, "unreachable:NoSchedule"]),
        (node(ready="Unknown", taints=[EXECUTE]), REMOVE, ["unreachable:NoSchedule"]),
        (node(ready="Unknown", taints=[OPPOSITE]), ADD, ["unreachable:NoSchedule", EXECUTE_TEXT]),
        (node(taints=[MINE, EXECUTE]), REMOVE, ["mine:NoExecute"]),
    ],
)
def test_taints_follow_readiness(held: dict[str, Any], execution: Execution, expected: list[str] | None) -> None:
    assert keys(with_taints(held, NOW, execution)) == expected


@pytest.mark.parametrize(
    ("type", "value", "taint"),
    [
        ("MemoryPressure", "True", "memory-pressure"),
        ("DiskPressure", "True", "disk-pressure"),
        ("PIDPressure", "True", "pid-pressure"),
        ("NetworkUnavailable", "True", "network-unavailable"),
        ("MemoryPressure", "Unknown", None),
        ("Odd", "True", None),
    ],
)
def test_conditions_are_taints(type: str, value: str, taint: str | None) -> None:
    held = node()
    held["status"]["conditions"].append({"type": type, "status": value})
    assert keys(with_taints(held, NOW, REMOVE)) == (None if taint is None else [f"{taint}:NoSchedule"])


def test_a_cordoned_node_is_tainted_too() -> None:
    held = node()
    held["spec"]["unschedulable"] = True
    assert keys(with_taints(held, NOW, REMOVE)) == ["unschedulable:NoSchedule"]


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
