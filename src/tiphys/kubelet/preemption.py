"""Which pods make room for a critical pod that the node has no room for. Pure.

Best-effort pods go before burstable and those before guaranteed ones; then the fewest pods, and of equal ones those
with the smaller requests. Upstream: pkg/kubelet/preemption.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tiphys.base.errors import TiphysError
from tiphys.kubelet.eviction.refusal import is_critical
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.resources import pod_requests, qos_class

REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
CONDITION = "Pod was preempted by Kubelet to accommodate a critical pod."

Missing = Mapping[str, int]
"""By resource, in units of `requested`: what the critical pod lacks."""


class NoVictims(TiphysError):
    """Not even all the pods that may go would make enough room."""


def victims(pod: Object, others: Iterable[Object], missing: Missing) -> list[Object]:
    """Those that go, in this order. Raises NoVictims."""
    tiers: dict[str, list[Object]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for other in others:
        if may_preempt(pod, other):
            tiers[qos_class(other)].append(other)
    best, burstable, guaranteed = tiers.values()
    if left := _subtract(missing, [*best, *burstable, *guaranteed]):
        raise NoVictims(f"preemption: error finding a set of pods to preempt: {_none(left)}")
    high = _nearest(guaranteed, _subtract(missing, [*best, *burstable]))
    middle = _nearest(burstable, _subtract(missing, [*best, *high]))
    low = _nearest(best, _subtract(missing, [*middle, *high]))
    return [*low, *middle, *high]


def may_preempt(pod: Object, other: Object) -> bool:
    """Whether `other` goes for `pod`."""
    if is_critical(pod) and not is_critical(other):
        return True
    mine, theirs = pod["spec"].get("priority"), other["spec"].get("priority")
    return mine is not None and theirs is not None and int(mine) > int(theirs)


def requested(pod: Object, resource: str) -> int:
    """Of one resource: millicores of CPU, else units; each pod counts as one of "pods"."""
    if resource == "pods":
        return 1
    amount = pod_requests(pod).get(resource)
    if amount is None:
        return 0
    return amount.milli if resource == "cpu" else amount.value


def _subtract(missing: Missing, pods: Sequence[Object]) -> dict[str, int]:
    """What is still missing without these pods."""
    left = {name: amount - sum(requested(pod, name) for pod in pods) for name, amount in missing.items()}
    return {name: amount for name, amount in left.items() if amount > 0}


def _nearest(pods: Sequence[Object], missing: Missing) -> list[Object]:
    """Again and again the pod that comes nearest to what is missing."""
    candidates, chosen = list(pods), []
    while missing:
        if not candidates:
            raise NoVictims(f"preemption: error finding a set of pods to preempt: {_none(missing)}")
        best = min(
            candidates, key=lambda pod: (_distance(pod, missing), requested(pod, "memory"), requested(pod, "cpu"))
        )
        candidates.remove(best)
        chosen.append(best)
        missing = _subtract(missing, [best])
    return chosen


def _distance(pod: Object, missing: Missing) -> float:
    """Sum of the squares of the fractions that are missing still."""
    fractions = ((amount - requested(pod, name)) / amount for name, amount in missing.items())
    return sum(max(0.0, fraction) ** 2 for fraction in fractions)


def _none(missing: Missing) -> str:
    shown = "".join(f"(res: {name}, q: {amount}), " for name, amount in missing.items())
    return f"no set of running pods found to reclaim resources: [{shown}]"
