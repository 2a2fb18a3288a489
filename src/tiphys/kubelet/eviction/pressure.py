"""Which thresholds are met and which conditions the node has, observation after observation. Pure.

A threshold counts once it has been met for its grace period, and goes on counting until its minimum reclaim is
free too. A condition stays for the transition period after it was last observed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.kubelet.eviction.figures import Observations
from tiphys.kubelet.eviction.signals import ALLOCATABLE_MEMORY, CONDITION_ORDER, CONDITIONS, MEMORY, Threshold


def met(thresholds: Iterable[Threshold], observed: Observations, with_reclaim: bool = False) -> list[Threshold]:
    """Those of which less is available than they want (and their minimum reclaim)."""
    found = []
    for threshold in thresholds:
        seen = observed.get(threshold.signal)
        if seen is None:
            continue
        wanted = threshold.value.of(seen.capacity)
        if with_reclaim and threshold.reclaim is not None:
            wanted = wanted + threshold.reclaim.of(seen.capacity)
        if wanted > seen.available:
            found.append(threshold)
    return found


@dataclass(frozen=True, slots=True)
class Findings:
    """What follows from one observation."""

    due: Sequence[Threshold]
    """Thresholds to act on now, the most urgent first."""
    conditions: tuple[str, ...]
    """The node's present conditions."""


class Pressure:
    """Remembers what was observed before; times are seconds of the monotonic clock."""

    def __init__(self, thresholds: Sequence[Threshold], transition: float) -> None:
        self.thresholds = list(thresholds)
        self._transition = transition
        self._since: dict[Threshold, float] = {}
        self._met: list[Threshold] = []
        self._conditions: dict[str, float] = {}
        self._last: Observations = {}

    def observe(self, observed: Observations, now: float) -> Findings:
        found = met(self.thresholds, observed)
        found += [one for one in met(self._met, observed, with_reclaim=True) if one not in found]
        self._since = {one: self._since.get(one, now) for one in found}
        self._conditions |= {CONDITIONS[one.signal]: now for one in found}
        self._met = [one for one in found if now - self._since[one] >= one.grace]
        due = [one for one in self._met if self._is_new(one, observed)]
        self._last = observed
        return Findings(sorted(due, key=_urgency), self.conditions(now))

    def conditions(self, now: float) -> tuple[str, ...]:
        """Those observed within the transition period."""
        recent = {kind for kind, at in self._conditions.items() if now - at < self._transition}
        return tuple(kind for kind in CONDITION_ORDER if kind in recent)

    def clears_at(self, now: float) -> float | None:
        """When the first of the present conditions ends, if it is not observed again."""
        ends = [at + self._transition for at in self._conditions.values() if now - at < self._transition]
        return min(ends, default=None)

    def _is_new(self, threshold: Threshold, observed: Observations) -> bool:
        """Whether the signal was measured anew: what was acted on once is not acted on again."""
        seen = observed.get(threshold.signal)
        before = self._last.get(threshold.signal)
        return seen is not None and (before is None or seen.at > before.at)


def _urgency(threshold: Threshold) -> int:
    """Memory before everything else."""
    return 0 if threshold.signal in (MEMORY, ALLOCATABLE_MEMORY) else 1
