"""Where a container's resources could be so that they are near to each other: the topology manager's decision. Pure.

Each provider (CPUs, memory, devices) says by resource which sets of NUMA nodes would do and which of them it prefers.
Every combination is merged by intersection; the best merged one is where the container goes, if the policy takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

Hint = tuple[frozenset[int] | None, bool]
"""(NUMA nodes, None for any; whether it is preferred)"""
Hints = Mapping[str, Sequence[Hint] | None]
"""By resource; None: any place will do, (): none will."""

NONE, BEST_EFFORT, RESTRICTED, SINGLE = "none", "best-effort", "restricted", "single-numa-node"


@dataclass(frozen=True, slots=True)
class Policy:
    """How much nearness counts. `distances` are those of the kernel, by node."""

    name: str = NONE
    nodes: tuple[int, ...] = (0,)
    distances: Mapping[int, tuple[int, ...]] | None = None
    """Given where near nodes count before few ones (prefer-closest-numa-nodes)."""

    def merge(self, offers: Iterable[Hints]) -> tuple[Hint, bool]:
        """(where it goes, whether it may)."""
        lists = list(_filtered(offers))
        if self.name == SINGLE:
            lists = [[one for one in found if one[1] and (one[0] is None or len(one[0]) == 1)] for found in lists]
        best = self._best(lists)
        if self.name == SINGLE and best[0] == frozenset(self.nodes):
            best = (None, best[1])
        return best, self.name in (NONE, BEST_EFFORT) or best[1]

    def _best(self, lists: list[list[Hint]]) -> Hint:
        everywhere = frozenset(self.nodes)
        sizes = [[len(one[0]) for one in found if one[0] is not None] for found in lists]
        wanted = max((min(found) for found in sizes if found), default=0)
        best: Hint | None = None
        for choice in product(*lists):
            found = _merged(everywhere, choice)
            if found[0]:
                best = found if best is None else self._better(best, found, wanted)
        return best if best is not None else (everywhere, False)

    def _better(self, now: Hint, other: Hint, wanted: int) -> Hint:
        """`wanted`: how many nodes whoever needs most needs at least; of what nobody prefers, what comes near to it."""
        if now[1] != other[1]:
            return now if now[1] else other
        have, get = len(now[0] or ()), len(other[0] or ())
        if now[1] or have > wanted or (have == wanted and get == wanted):
            return self._fitter(now, other)
        if have == wanted or get > wanted:
            return now
        if get == wanted or get > have:
            return other
        return now if get < have else self._fitter(now, other)

    def _fitter(self, now: Hint, other: Hint) -> Hint:
        first, second = now[0] or frozenset(), other[0] or frozenset()
        if self.distances and self.name != SINGLE:
            far, near = self._distance(first), self._distance(second)
            if far != near:
                return now if far < near else other
        if len(first) != len(second):
            return now if len(first) < len(second) else other
        return now if _mask(first) <= _mask(second) else other

    def _distance(self, nodes: frozenset[int]) -> float:
        index = {node: place for place, node in enumerate(sorted(self.distances or {}))}
        total = sum((self.distances or {})[one][index[other]] for one in nodes for other in nodes)
        return total / max(1, len(nodes) ** 2)


def _mask(nodes: frozenset[int]) -> int:
    return sum(1 << node for node in nodes)


def _filtered(offers: Iterable[Hints]) -> Iterator[list[Hint]]:
    for offer in offers:
        if not offer:
            yield [(None, True)]
        for found in offer.values():
            yield [(None, True)] if found is None else list(found) or [(None, False)]


def _merged(everywhere: frozenset[int], choice: Sequence[Hint]) -> Hint:
    sets = [one[0] for one in choice if one[0] is not None]
    nodes = everywhere.intersection(*sets)
    return nodes, all(one[1] for one in choice) and all(one == sets[0] for one in sets)


def masks(nodes: Sequence[int]) -> Iterator[frozenset[int]]:
    """Every set of these nodes, small ones first."""
    for count in range(1, len(nodes) + 1):
        for some in combinations(nodes, count):
            yield frozenset(some)
