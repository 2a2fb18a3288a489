"""The status of a PodDisruptionBudget: how many of its pods are healthy, how many have to be. Pure.

The eviction endpoint takes one disruption at a time and notes the pod in `disruptedPods`; such a pod counts as gone
until it is deleted, or for two minutes: then the eviction is taken to have come to nothing (KEP-85).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.disruption_target import TARGET, observed
from tiphys.controllers.objects import condition, deleting, int_of, moment, name, scaled, spec, status

DELETION_TIMEOUT = 120.0
"""Seconds in which a pod that was evicted should be deleted."""

STALE_TIMEOUT = 120.0
"""Seconds after which the condition DisruptionTarget of a pod that lives on is taken back."""

CONDITION = "DisruptionAllowed"

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


@dataclass(frozen=True, slots=True)
class Disrupted:
    """Which pods are about to go: those still waited for, and those that should be gone long since."""

    pods: Mapping[str, str]
    overdue: tuple[Object, ...] = ()
    recheck: float | None = None
    """Seconds until the first of `pods` is overdue."""


def counts_controllers(budget: Object) -> bool:
    """Whether what is expected is the size of the pods' controllers, not the number of pods."""
    wanted = spec(budget)
    return wanted.get("maxUnavailable") is not None or isinstance(wanted.get("minAvailable"), str)


def desired(budget: Object, expected: int) -> int:
    """How many pods have to be healthy of so many that are expected."""
    most, least = spec(budget).get("maxUnavailable"), spec(budget).get("minAvailable")
    if most is not None:
        return max(0, expected - scaled(most, expected, round_up=True))
    return scaled(least, expected, round_up=True)


def disrupted(budget: Object, pods: Iterable[Object], now: float) -> Disrupted:
    """Sort the pods that were evicted by whether their deletion still is to be waited for."""
    noted = status(budget).get("disruptedPods") or {}
    kept, overdue, waits = {}, [], []
    for pod in pods:
        since = noted.get(name(pod))
        if deleting(pod) or since is None:
            continue
        left = moment(since) + DELETION_TIMEOUT - now
        if left < 0:
            overdue.append(pod)
        else:
            kept[name(pod)] = since
            waits.append(left)
    return Disrupted(kept, tuple(overdue), min(waits, default=None))


def healthy(pods: Iterable[Object], going: Mapping[str, str], now: float) -> int:
    """How many are ready and not on their way out."""
    return sum(
        podlib.ready(pod)
        for pod in pods
        if not deleting(pod) and moment(going.get(name(pod))) + DELETION_TIMEOUT <= now
    )


def new_status(
    budget: Object, pods: Sequence[Object], expected: int, going: Mapping[str, str], now: float
) -> dict[str, Any]:
    """The status that follows, given how many pods there should be."""
    current, wanted = healthy(pods, going, now), desired(budget, expected)
    allowed = max(0, current - wanted) if expected > 0 else 0
    generation = int_of(budget["metadata"].get("generation"))
    value, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    new: dict[str, Any] = dict(zip(_COUNTS, (allowed, current, wanted, expected), strict=True))
    if going:
        new["disruptedPods"] = dict(going)
    if generation:
        new["observedGeneration"] = generation
    new["conditions"] = _conditions(budget, value, reason, "", generation, now)
    return new


def failed_status(budget: Object, message: str, now: float) -> dict[str, Any]:
    """The status when it cannot be known: nothing may be disrupted."""
    generation = int_of(status(budget).get("observedGeneration"))
    conditions = _conditions(budget, "False", "SyncFailed", message, generation, now)
    rest = {key: status(budget).get(key) or 0 for key in _COUNTS}
    return {**status(budget), **rest, "disruptionsAllowed": 0, "conditions": conditions}


def _conditions(
    budget: Object, value: str, reason: str, message: str, generation: int, now: float
) -> list[Mapping[str, Any]]:
    """The conditions with DisruptionAllowed set, in its place."""
    present = list(status(budget).get("conditions") or ())
    old = condition(status(budget), CONDITION)
    since = rfc3339(now)
    if old is not None and old.get("status") == value and old.get("lastTransitionTime"):
        since = str(old["lastTransitionTime"])
    new: dict[str, Any] = {"type": CONDITION, "status": value}
    if generation:
        new["observedGeneration"] = generation
    new |= {"lastTransitionTime": since, "reason": reason, "message": message}
    if old is None:
        return [*present, new]
    return [new if each is old else each for each in present]


def stale_after(pod: Object, now: float) -> float | None:
    """Seconds until the pod's DisruptionTarget condition is to be taken back, 0 for now; None if it is not."""
    found = condition(status(pod), TARGET)
    if found is None or deleting(pod) or podlib.terminal(pod):
        return None
    if found.get("status") != "True" or found.get("reason") == "TerminationByKubelet":
        return None
    return max(0.0, moment(found.get("lastTransitionTime")) + STALE_TIMEOUT - now)


def without_target(pod: Object, now: float) -> dict[str, Any]:
    """The pod's status with the condition DisruptionTarget set back."""
    times = {"lastProbeTime": None, "lastTransitionTime": rfc3339(now)}
    new = {"type": TARGET, "status": "False", **observed(pod), **times}
    conditions = [new if each.get("type") == TARGET else each for each in status(pod).get("conditions") or ()]
    return {**status(pod), "conditions": conditions}


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector as upstream's messages show it."""
    if selector is None:
        return "nil"
    pairs = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{each['key']},Operator:{each['operator']},"
        f"Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
