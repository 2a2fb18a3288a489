"""Random metrics and behaviors against an oracle that remembers everything: bounds, windows and rates always hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers import autoscaler_replicas as replicas
from tiphys.controllers.autoscaler_replicas import Conditions, Sample, Unmeasurable
from tiphys.controllers.autoscaler_scaling import Bounds, Memory, size

START = 1_767_225_600.0
WINDOW = 300.0
PERIODS = (15, 60, 120)


@dataclass
class Oracle:
    """The whole history: when it had which size, and what was recommended when."""

    sizes: list[tuple[float, int]]
    wishes: list[tuple[float, int]] = field(default_factory=list)

    def at(self, moment: float) -> int:
        """The size after all changes up to and at `moment`."""
        return next((size for when, size in reversed(self.sizes) if when <= moment), self.sizes[0][1])

    def wished_since(self, moment: float) -> list[int]:
        return [wish for when, wish in self.wishes if when > moment]


def allowed(rules: dict[str, Any], oracle: Oracle, current: int, now: float, *, up: bool) -> int:
    """How far the size may move by the rates alone."""
    if rules["selectPolicy"] == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules["policies"]:
        before, value = oracle.at(now - policy["periodSeconds"]), policy["value"]
        if policy["type"] == "Pods":
            limits.append(int(before + value if up else before - value))
        else:
            limits.append(math.ceil(before * (1 + value / 100)) if up else int(before * (1 - value / 100)))
    most_change = rules["selectPolicy"] == "Max"
    if up:
        return max(current, max(limits) if most_change else min(limits))
    return min(current, min(limits) if most_change else max(limits))


def rules(random: Random) -> dict[str, Any]:
    policies = [
        {"type": random.choice(("Pods", "Percent")), "value": random.choice((1, 2, 4, 10, 50, 100)), "periodSeconds": p}
        for p in random.sample(PERIODS[:2], random.randint(0, 2))
    ]
    last = {"type": "Pods", "value": random.randint(1, 8), "periodSeconds": PERIODS[2]}
    return {
        "policies": [*policies, last],
        "selectPolicy": random.choice(("Max", "Max", "Min", "Disabled")),
        "stabilizationWindowSeconds": random.choice((0, 0, 30, 120, 300)),
    }


def fleet(random: Random, count: int, now: float) -> list[dict[str, Any]]:
    pods = []
    for number in range(count):
        phase = random.choice(("Running", "Running", "Running", "Pending", "Failed"))
        since = rfc3339(now - random.choice((5, 100, 1000)))
        condition = {"type": "Ready", "status": random.choice(("True", "True", "False")), "lastTransitionTime": since}
        container = {"name": "c", "resources": {"requests": {"cpu": random.choice(("1", "250m"))}}}
        pods.append(
            {
                "metadata": {"name": f"p{number}"},
                "spec": {"containers": [container]},
                "status": {"phase": phase, "startTime": since, "conditions": [condition]},
            }
        )
    return pods


def wish(random: Random, current: int, now: float) -> int | None:
    """What random metrics ask for; None if they cannot be had."""
    pods = fleet(random, min(current, 40), now)
    level = random.choice((0, 100, 500, 1000, 10**6, 10**15, -1000))
    measured = {
        pod["metadata"]["name"]: Sample(level + random.randint(0, 300), now - random.choice((0, 90)))
        for pod in pods
        if random.random() < 0.8
    }
    try:
        if random.random() < 0.5:
            return replicas.by_utilization(pods, measured, current, 50, "cpu", "", Conditions(now)).replicas
        return replicas.by_average(pods, measured, current, 400, "", Conditions(now)).replicas
    except Unmeasurable:
        return None


@pytest.mark.parametrize("seed", range(60))
def test_no_metric_moves_the_size_further_than_its_behavior_allows(seed: int) -> None:
    random = Random(seed)
    least, most = random.randint(1, 5), random.randint(5, 100)
    up, down = rules(random), rules(random)
    memory, current, now = Memory(), random.randint(least, most), START
    oracle = Oracle([(now - 10_000, current)])
    behavior = {"scaleUp": up, "scaleDown": down}
    for _ in range(120):
        now += random.choice((15, 15, 15, 40, 200))
        memory.begin(current, now)
        oracle.wishes = oracle.wishes or [(now, current)]
        wanted = wish(random, current, now)
        if wanted is None:
            continue
        found = size(memory, behavior, Bounds(current, least, most), wanted, WINDOW, now).replicas
        oracle.wishes.append((now, wanted))
        assert least <= found <= most
        calm_up = min(oracle.wished_since(now - up["stabilizationWindowSeconds"]) or [wanted])
        calm_down = max(oracle.wished_since(now - down["stabilizationWindowSeconds"]) or [wanted])
        assert found <= max(current, min(calm_up, allowed(up, oracle, current, now, up=True)))
        assert found >= min(current, max(calm_down, allowed(down, oracle, current, now, up=False)))
        if found != current:
            memory.changed(behavior, current, found, now)
            oracle.sizes.append((now, found))
            current = found


@pytest.mark.parametrize("seed", range(20))
def test_without_behavior_the_size_at_most_doubles_and_waits_before_it_falls(seed: int) -> None:
    random = Random(seed)
    least, most = random.randint(1, 5), random.randint(5, 100)
    memory, current, now = Memory(), random.randint(least, most), START
    oracle = Oracle([(now, current)])
    for _ in range(120):
        now += random.choice((15, 15, 15, 40, 400))
        memory.begin(current, now)
        oracle.wishes = oracle.wishes or [(now, current)]
        wanted = wish(random, current, now)
        if wanted is None:
            continue
        found = size(memory, None, Bounds(current, least, most), wanted, WINDOW, now).replicas
        oracle.wishes.append((now, wanted))
        highest = max(each for when, each in oracle.wishes if when >= now - WINDOW)
        assert found == max(least, min(highest, most, max(2 * current, 4)))
        current = found
