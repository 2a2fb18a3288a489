"""On which NUMA nodes a container's devices could be: what a topology manager merges with other hints. Pure.

Source: upstream's topology manager, HintProvider of the device manager.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from tiphys.kubelet.devices.pool import Pool

Hint = tuple[frozenset[int], bool]
"""(NUMA nodes, whether it is preferred)"""


def hints_of(
    pool: Pool,
    requested: int,
    in_use: Iterable[str],
    held: Iterable[str] = (),
    reusable: Iterable[str] = (),
    machine: Iterable[int] = (0,),
) -> list[Hint] | None:
    """Every set of NUMA nodes that can serve the request; None: it does not matter, []: nothing can."""
    if not pool.aligned:
        return None
    owned, spare = set(held), set(reusable)
    if owned:
        return _generate(pool, owned, set(), requested, machine) if len(owned) == requested else []
    available = pool.healthy - set(in_use)
    if len(available | spare) < requested:
        return []
    return _generate(pool, available, spare, requested, machine)


def _generate(
    pool: Pool, available: set[str], reusable: set[str], requested: int, machine: Iterable[int]
) -> list[Hint]:
    known = set(machine)
    nodes = sorted({node for device in pool.devices.values() for node in device.nodes} & known or known)
    least = len(nodes)
    found: list[frozenset[int]] = []
    for mask in _masks(nodes):
        if sum(_touches(pool, id, mask) for id in pool.devices) >= requested:
            least = min(least, len(mask))
        placed = {id for id in reusable if pool.nodes_of(id)}
        if not all(_touches(pool, id, mask) for id in placed):
            continue
        if len(placed) + sum(_touches(pool, id, mask) for id in available) >= requested:
            found.append(mask)
    return [(mask, len(mask) == least) for mask in found]


def _masks(nodes: list[int]) -> Iterator[frozenset[int]]:
    for count in range(1, len(nodes) + 1):
        for some in combinations(nodes, count):
            yield frozenset(some)


def _touches(pool: Pool, id: str, mask: frozenset[int]) -> bool:
    return not mask.isdisjoint(pool.nodes_of(id))
