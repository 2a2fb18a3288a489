from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.autoscaler_scaling import Bounds, Memory, Sizing, size

NOW = 10_000.0


def policy(kind: str, value: int, period: int = 60) -> dict[str, Any]:
    return {"type": kind, "value": value, "periodSeconds": period}


def behavior(up: dict[str, Any] | None = None, down: dict[str, Any] | None = None) -> dict[str, Any]:
    fast = {"policies": [policy("Percent", 100, 15)], "selectPolicy": "Max", "stabilizationWindowSeconds": 0}
    return {"scaleUp": {**fast, **(up or {})}, "scaleDown": {**fast, **(down or {})}}


def sized(
    current: int, wanted: int, rules: dict[str, Any] | None = None, memory: Memory | None = None, most: int = 100
) -> Sizing:
    return size(memory or Memory(), rules, Bounds(current, 2, most), wanted, 300.0, NOW)


@pytest.mark.parametrize(
    ("current", "wanted", "replicas", "limited"),
    [
        (5, 7, 7, ("False", "DesiredWithinRange")),
        (5, 20, 10, ("True", "ScaleUpLimit")),
        (1, 20, 4, ("True", "ScaleUpLimit")),
        (60, 200, 100, ("True", "TooManyReplicas")),
        (5, 1, 2, ("True", "TooFewReplicas")),
    ],
)
def test_without_behavior_the_size_may_double(
    current: int, wanted: int, replicas: int, limited: tuple[str, str]
) -> None:
    found = sized(current, wanted)
    assert (found.replicas, found.limited[:2]) == (replicas, limited)


def test_without_behavior_the_highest_recommendation_of_the_window_counts() -> None:
    memory = Memory([(9, NOW - 301), (8, NOW - 200), (3, NOW - 10)])
    found = sized(10, 4, memory=memory)
    assert (found.replicas, found.able[1]) == (8, "ScaleDownStabilized")
    assert [value for value, _ in memory.recommendations] == [8, 3, 4]


def test_windows_of_behavior_hold_back_both_directions() -> None:
    rules = behavior({"stabilizationWindowSeconds": 100}, {"stabilizationWindowSeconds": 200})
    memory = Memory([(20, NOW - 300), (6, NOW - 50), (12, NOW - 150)])
    assert sized(5, 10, rules, memory).replicas == 6
    memory = Memory([(20, NOW - 300), (6, NOW - 50), (12, NOW - 150)])
    found = sized(15, 4, rules, memory)
    assert (found.replicas, found.able[1]) == (12, "ScaleDownStabilized")


def test_a_window_for_scaling_down_that_is_not_given_is_the_controllers() -> None:
    rules = behavior()
    del rules["scaleDown"]["stabilizationWindowSeconds"]
    assert sized(15, 4, rules, Memory([(14, NOW - 299)])).replicas == 14


@pytest.mark.parametrize(
    ("select", "wanted", "replicas"),
    [("Max", 50, 20), ("Min", 50, 13), ("Disabled", 50, 10), ("Max", 1, 2), ("Min", 1, 7), ("Disabled", 1, 10)],
)
def test_policies_limit_the_rate(select: str, wanted: int, replicas: int) -> None:
    rules = {"policies": [policy("Pods", 3), policy("Percent", 100)], "selectPolicy": select}
    assert sized(10, wanted, behavior(rules, rules)).replicas == replicas


def test_what_was_changed_in_the_period_counts_against_the_rate() -> None:
    rules = behavior({"policies": [policy("Pods", 4)]})
    memory = Memory()
    memory.changed(rules, 5, 8, NOW - 30)
    memory.changed(rules, 8, 7, NOW - 20)
    found = sized(8, 20, rules, memory)
    assert (found.replicas, found.limited[1]) == (10, "ScaleUpLimit")


def test_changes_are_forgotten_after_the_longest_period() -> None:
    rules = behavior({"policies": [policy("Pods", 4, 60), policy("Pods", 8, 120)]})
    memory = Memory(ups=[(1, NOW - 121), (2, NOW - 119)])
    memory.changed(rules, 5, 6, NOW)
    assert memory.ups == [(2, NOW - 119), (1, NOW)]
    memory.changed(None, 5, 6, NOW)
    assert len(memory.ups) == 2
