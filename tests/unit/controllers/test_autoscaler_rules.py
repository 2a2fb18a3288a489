"""What a metric asks for, situation by situation: pods that start, fail, wait, or have no metric."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers import autoscaler_replicas as replicas
from tiphys.controllers.autoscaler_replicas import Conditions, Proposal, Sample, Tolerances, Unmeasurable
from tiphys.controllers.autoscaler_sources import Failed, Measured, Target, leading, measure

NOW = 1_767_225_600.0
STATES: dict[str, dict[str, Any]] = {
    "w": {},
    "u": {"ready": "False", "age": 100, "changed": 100},
    "h": {"age": 100, "changed": 20},
    "p": {"phase": "Pending", "ready": "False"},
    "f": {"phase": "Failed", "ready": "False"},
    "d": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    "s": {"phase": "Succeeded", "ready": "False"},
    "o": {"ready": "False", "age": 3600, "changed": 60},
}
"""Works; unready since its start; hot: just started; pending; failed; being deleted; succeeded; was ready once."""


def pod(
    name: str, phase: str = "Running", ready: str = "True", age: float = 3600, changed: float = 3500, **meta: str
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": rfc3339(NOW - changed)}
    return {
        "metadata": {"name": name, **meta},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": phase, "startTime": rfc3339(NOW - age), "conditions": [condition]},
    }


def fleet(states: str) -> list[dict[str, Any]]:
    return [pod(f"p{number}", **STATES[state]) for number, state in enumerate(states)]


def samples(values: tuple[int, ...]) -> dict[str, Sample]:
    return {f"p{number}": Sample(value, NOW) for number, value in enumerate(values)}


def by_cpu(states: str, values: tuple[int, ...], target: int, current: int) -> Proposal:
    given = Conditions(NOW)
    return replicas.by_utilization(fleet(states), samples(values), current, target, "cpu", "", given)


@pytest.mark.parametrize(
    ("states", "values", "target", "current", "wanted", "utilization"),
    [
        pytest.param("uww", (300, 500, 700), 30, 3, 4, 60, id="an unready pod counts as idle"),
        pytest.param("hww", (300, 500, 700), 30, 3, 4, 60, id="so does one that just started"),
        pytest.param("oww", (300, 500, 700), 30, 3, 5, 50, id="but not one that was ready once"),
        pytest.param("wuu", (400, 500, 700), 30, 3, 3, 40, id="too many unready ones to grow"),
        pytest.param("wwff", (500, 700), 30, 2, 4, 60, id="failed pods do not count"),
        pytest.param("wwdd", (500, 700), 30, 2, 4, 60, id="nor do those that go"),
        pytest.param("wwwuu", (100, 300, 500, 250, 250), 50, 5, 2, 30, id="unready pods are left out on the way down"),
        pytest.param("wwwhh", (100, 300, 500, 250, 250), 50, 5, 2, 30, id="hot ones, too"),
        pytest.param("wwwff", (100, 300, 500), 50, 5, 2, 30, id="failed ones, too"),
        pytest.param("wwwdd", (100, 300, 500, 900, 900), 50, 5, 2, 30, id="and those that go"),
        pytest.param("wpppp", (100,), 50, 5, 1, 10, id="pending pods are not waited for"),
        pytest.param("wwww", (400, 95), 100, 4, 3, 24, id="missing metrics are full use on the way down"),
        pytest.param("ww", (1000,), 100, 2, 2, 100, id="missing at the target"),
        pytest.param("ww", (1900,), 100, 2, 2, 190, id="missing above it"),
        pytest.param("ww", (600,), 100, 2, 2, 60, id="missing below it"),
        pytest.param("uww", (100, 450), 50, 3, 3, 45, id="missing and unready"),
        pytest.param("hww", (100, 450), 50, 3, 3, 45, id="missing and hot"),
        pytest.param("uww", (100, 2000), 50, 3, 4, 200, id="missing and unready while growing"),
        pytest.param("uwww", (100, 100, 100), 50, 4, 3, 10, id="missing and unready while shrinking"),
        pytest.param("www", (100, 100), 50, 2, 2, 10, id="a surge does not turn shrinking into growing"),
        pytest.param("wws", (500, 700), 30, 3, 4, 60, id="a pod that succeeded has no metric"),
        pytest.param("www", (1010, 1030, 1020), 100, 3, 3, 102, id="within the tolerance"),
        pytest.param("w", (2147483,), 1, 1, 214748, 214748, id="very much"),
    ],
)
def test_what_utilization_asks_for(
    states: str, values: tuple[int, ...], target: int, current: int, wanted: int, utilization: int
) -> None:
    found = by_cpu(states, values, target, current)
    assert (found.replicas, found.utilization) == (wanted, utilization)


@pytest.mark.parametrize(
    ("states", "values", "target", "current", "wanted", "usage"),
    [
        pytest.param("www", (20000, 10000, 30000), 15000, 3, 4, 20000, id="growing"),
        pytest.param("wwu", (50000, 10000, 30000), 15000, 3, 6, 30000, id="readiness is only for cpu"),
        pytest.param("uwu", (50000, 15000, 30000), 15000, 3, 7, 31666, id="so is the start"),
        pytest.param("wwwww", (12000,) * 5, 20000, 5, 3, 12000, id="shrinking"),
        pytest.param("www", (20000, 21000, 21000), 20000, 3, 3, 20666, id="within the tolerance"),
        pytest.param("www", (10000, 10000), 17000, 2, 2, 10000, id="a surge"),
        pytest.param("wwwp", (1000, 1000, 1000), 1000, 4, 4, 1000, id="missing and exact"),
        pytest.param("ww", (-1500, -1500), 1000, 2, -3, -1500, id="less than nothing"),
        pytest.param("ww", (-1, -2), 1000, 2, 0, -1, id="rounded towards zero"),
    ],
)
def test_what_an_average_asks_for(
    states: str, values: tuple[int, ...], target: int, current: int, wanted: int, usage: int
) -> None:
    found = replicas.by_average(fleet(states), samples(values), current, target, "", Conditions(NOW))
    assert (found.replicas, found.usage) == (wanted, usage)


@pytest.mark.parametrize(
    ("states", "usage", "current", "wanted"),
    [("www", 20000, 3, 4), ("uww", 60000, 3, 8), ("www", 15500, 3, 3), ("", 40000, 0, 3), ("wwwww", 8571, 5, 3)],
)
def test_what_a_total_asks_for(states: str, usage: int, current: int, wanted: int) -> None:
    assert replicas.by_total(fleet(states), current, usage, 15000, Tolerances()).replicas == wanted


def test_a_total_needs_pods_to_share_it() -> None:
    with pytest.raises(Unmeasurable, match="unable to calculate ready pods: no pods returned by selector"):
        replicas.by_total([], 3, 99000, 15000, Tolerances())


def test_missing_pods_are_as_loaded_as_a_target_over_one_hundred_percent() -> None:
    pods = fleet("uwww")
    for each in pods[2:]:
        each["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2"
    found = replicas.by_utilization(pods, samples((200, 100, 100)), 4, 300, "cpu", "", Conditions(NOW))
    assert (found.replicas, found.utilization) == (2, 6)


def test_metrics_of_unknown_pods_say_nothing() -> None:
    with pytest.raises(Unmeasurable, match="no metrics returned matched known pods"):
        replicas.by_utilization(fleet("w"), {"older": Sample(1, NOW)}, 1, 50, "cpu", "", Conditions(NOW))


@pytest.mark.parametrize(("sizes", "leader"), [((0, 0), 1), ((2, 2), 0), ((0, 3, 3), 1), ((5, 4), 0), ((), None)])
def test_the_first_of_the_largest_leads(sizes: tuple[int, ...], leader: int | None) -> None:
    found = [Measured(size, str(number), {}) for number, size in enumerate(sizes)]
    best = leading(found)
    assert (best.name if best is not None else None) == (None if leader is None else str(leader))


@pytest.mark.parametrize("source", [{}, {"type": "Odd"}, {"type": "Pods"}, {"type": "Resource", "resource": None}])
def test_a_source_that_no_server_would_take_is_a_failure(source: dict[str, Any]) -> None:
    nothing: Any = None  # metrics that are never asked for
    target = Target("default", "app=web", [], 1, 1)
    with pytest.raises(Failed) as found:
        asyncio.run(measure(nothing, source, target, Conditions(NOW)))
    assert found.value.reason == "InvalidMetricSourceType"
