"""From what metrics ask for to the size that is set: stabilisation, rates and bounds. Pure but for the memory it is
handed: recent recommendations and changes of one autoscaler.

Without `behavior` the size may double (or reach four) at once, and falls no lower than the highest recommendation of
the last five minutes. With `behavior` each direction has a window and policies (KEP-853).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.controllers.objects import int_of

_FACTOR, _MINIMUM = 2, 4

Struct = Mapping[str, Any]
Dated = list[tuple[int, float]]
"""Numbers with the time of each, seconds."""


@dataclass(slots=True)
class Memory:
    """What is remembered of one autoscaler."""

    recommendations: Dated = field(default_factory=list)
    ups: Dated = field(default_factory=list)
    downs: Dated = field(default_factory=list)

    def begin(self, current: int, now: float) -> None:
        """The size that is found first is a recommendation, so that a restart does not scale down at once."""
        if not self.recommendations:
            self.recommendations.append((current, now))

    def changed(self, behavior: Struct | None, before: int, after: int, now: float) -> None:
        """Remember a change of size for as long as a policy may ask for it."""
        if behavior is None:
            return
        grown = after > before
        events = self.ups if grown else self.downs
        period = _longest_period((behavior.get("scaleUp") if grown else behavior.get("scaleDown")) or {})
        events[:] = [each for each in events if each[1] >= now - period]
        events.append((abs(after - before), now))


@dataclass(frozen=True, slots=True)
class Sizing:
    """The size to set, and why it is that: (status, reason, message) of the two conditions that tell."""

    replicas: int
    able: tuple[str, str, str]
    limited: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The size now and those that are allowed."""

    current: int
    least: int
    most: int


_MATCHES = ("True", "ReadyForNewScale", "recommended size matches current size")
_HIGHER = "recent recommendations were higher than current one, applying the highest recent recommendation"
_LOWER = "recent recommendations were lower than current one, applying the lowest recent recommendation"
_FINE = ("DesiredWithinRange", "the desired count is within the acceptable range")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")


def size(memory: Memory, behavior: Struct | None, bounds: Bounds, wanted: int, window: float, now: float) -> Sizing:
    """The size that follows from the `wanted` one; `window` is the default one for scaling down, in seconds."""
    if behavior is None:
        stable = _stabilized(memory, wanted, window, now)
        able = ("True", "ScaleDownStabilized", _HIGHER)
        replicas, why = _bounded(bounds, stable)
    else:
        stable = _stabilized_with(memory, behavior, bounds.current, wanted, window, now)
        grows = wanted >= bounds.current
        able = ("True", "ScaleUpStabilized", _LOWER) if grows else ("True", "ScaleDownStabilized", _HIGHER)
        replicas, why = _bounded_with(memory, behavior, bounds, stable, now)
    limited = "False" if replicas == stable else "True"
    return Sizing(replicas, able if stable != wanted else _MATCHES, (limited, *why))


def _stabilized(memory: Memory, wanted: int, window: float, now: float) -> int:
    """The highest recommendation in the window."""
    recent = [each for each, at in memory.recommendations if at >= now - window]
    memory.recommendations = [each for each in memory.recommendations if each[1] >= now - window]
    memory.recommendations.append((wanted, now))
    return max([wanted, *recent])


def _stabilized_with(memory: Memory, behavior: Struct, current: int, wanted: int, window: float, now: float) -> int:
    """The current size, moved only as far as all recommendations of the direction's window agree."""
    up = int_of((behavior.get("scaleUp") or {}).get("stabilizationWindowSeconds"))
    down = (behavior.get("scaleDown") or {}).get("stabilizationWindowSeconds")
    down = window if down is None else down
    past = memory.recommendations
    lowest = min([wanted, *(each for each, at in past if at > now - up)])
    highest = max([wanted, *(each for each, at in past if at > now - down)])
    memory.recommendations = [each for each in past if each[1] >= now - max(up, down)]
    memory.recommendations.append((wanted, now))
    return min(max(current, lowest), highest)


def _bounded(bounds: Bounds, wanted: int) -> tuple[int, tuple[str, str]]:
    limit = max(_FACTOR * bounds.current, _MINIMUM)
    most, why = (limit, _UP_LIMIT) if bounds.most > limit else (bounds.most, _TOO_MANY)
    if wanted < bounds.least:
        return bounds.least, _TOO_FEW
    if wanted > most:
        return most, why
    return wanted, _FINE


def _bounded_with(
    memory: Memory, behavior: Struct, bounds: Bounds, wanted: int, now: float
) -> tuple[int, tuple[str, str]]:
    if wanted > bounds.current:
        limit = max(bounds.current, _up_limit(memory, behavior.get("scaleUp") or {}, bounds.current, now))
        most, why = (limit, _UP_LIMIT) if bounds.most > limit else (bounds.most, _TOO_MANY)
        if wanted > most:
            return most, why
    elif wanted < bounds.current:
        limit = min(bounds.current, _down_limit(memory, behavior.get("scaleDown") or {}, bounds.current, now))
        least, why = (limit, _DOWN_LIMIT) if bounds.least < limit else (bounds.least, _TOO_FEW)
        if wanted < least:
            return least, why
    return wanted, _FINE


def _up_limit(memory: Memory, rules: Struct, current: int, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    proposals = []
    for policy in rules.get("policies") or ():
        start = _at_period_start(memory, policy, current, now)
        if policy["type"] == "Pods":
            proposals.append(start + policy["value"])
        else:
            proposals.append(math.ceil(start * (1 + policy["value"] / 100)))
    choose = min if rules.get("selectPolicy") == "Min" else max
    return choose(proposals, default=current)


def _down_limit(memory: Memory, rules: Struct, current: int, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    proposals = []
    for policy in rules.get("policies") or ():
        start = _at_period_start(memory, policy, current, now)
        if policy["type"] == "Pods":
            proposals.append(start - policy["value"])
        else:
            proposals.append(int(start * (1 - policy["value"] / 100)))
    choose = max if rules.get("selectPolicy") == "Min" else min
    return choose(proposals, default=current)


def _at_period_start(memory: Memory, policy: Struct, current: int, now: float) -> int:
    since = now - policy["periodSeconds"]
    return current - _sum_since(memory.ups, since) + _sum_since(memory.downs, since)


def _sum_since(events: Iterable[tuple[int, float]], since: float) -> int:
    return sum(change for change, at in events if at > since)


def _longest_period(rules: Struct) -> int:
    return max((policy["periodSeconds"] for policy in rules.get("policies") or ()), default=0)
