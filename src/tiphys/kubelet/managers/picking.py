"""Which CPUs a container gets for itself: whole sockets, NUMA nodes and cores before single threads. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tiphys.base.errors import TiphysError
from tiphys.kubelet.managers.hints import masks
from tiphys.kubelet.managers.layout import Cpu, Layout


class NotEnough(TiphysError):
    """There are not so many CPUs left."""


def pick(layout: Layout, free: frozenset[int], count: int, *, spread_cores: bool = False) -> frozenset[int]:
    """`count` of the `free` CPUs, packed; or of as many cores as can be. Raises NotEnough."""
    if count > len(free):
        raise NotEnough(f"not enough cpus available to satisfy request: requested={count}, available={len(free)}")
    taken: set[int] = set()
    if not spread_cores:
        for key in sorted((_socket, _node), key=lambda one: len({one(cpu) for cpu in layout.cpus})):
            _take_whole(layout, free, taken, count, key)
        _take_whole(layout, free, taken, count, _core)
    for cpu in _threads(layout, free, taken, spread=spread_cores):
        if len(taken) == count:
            break
        taken.add(cpu.id)
    return frozenset(taken)


def _socket(cpu: Cpu) -> int:
    return cpu.socket


def _node(cpu: Cpu) -> int:
    return cpu.node


def _core(cpu: Cpu) -> int:
    return cpu.core


def _take_whole(layout: Layout, free: frozenset[int], taken: set[int], count: int, key: Callable[[Cpu], int]) -> None:
    """Groups of which nothing is in use, as long as they are needed whole; those beside what is in use first."""
    groups: dict[int, list[Cpu]] = {}
    for cpu in layout.cpus:
        groups.setdefault(key(cpu), []).append(cpu)
    for number in sorted(groups, key=lambda one: (_room(layout, free, groups[one][0]), one)):
        group = {cpu.id for cpu in groups[number]}
        if group <= free - taken and len(taken) + len(group) <= count:
            taken |= group


def _room(layout: Layout, free: frozenset[int], cpu: Cpu) -> tuple[int, int]:
    """How much is free on the socket and the node of this CPU."""
    socket = sum(one.socket == cpu.socket and one.id in free for one in layout.cpus)
    return socket, sum(one.node == cpu.node and one.id in free for one in layout.cpus)


def _threads(layout: Layout, free: frozenset[int], taken: set[int], *, spread: bool) -> Iterator[Cpu]:
    """Single threads: near to what is taken already, of cores that are in use anyway; or each of another core."""
    near = {cpu.node for cpu in layout.cpus if cpu.id in taken}
    left = free - taken

    def key(cpu: Cpu) -> tuple[int, ...]:
        siblings = [one.id for one in layout.cpus if one.core == cpu.core and one.id in left]
        if spread:
            return siblings.index(cpu.id), cpu.core, cpu.id
        return int(cpu.node not in near), *_room(layout, free, cpu), len(siblings), cpu.core, cpu.id

    yield from sorted((cpu for cpu in layout.cpus if cpu.id in left), key=key)


def pick_across_nodes(layout: Layout, free: frozenset[int], count: int, group: int) -> frozenset[int]:
    """Evenly over as few NUMA nodes as can be, in multiples of `group`; packed where that is impossible."""
    for nodes in masks(layout.nodes):
        each, rest = divmod(count, len(nodes))
        if rest or each % group or any(len(free & layout.on([node])) < each for node in nodes):
            continue
        return frozenset().union(*(pick(layout, free & layout.on([node]), each) for node in sorted(nodes)))
    return pick(layout, free, count)
