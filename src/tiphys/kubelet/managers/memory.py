"""The static memory manager: memory of guaranteed containers comes from NUMA nodes that have enough. Pure state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tiphys.base.errors import TiphysError
from tiphys.kubelet.limits import HUGEPAGES
from tiphys.kubelet.managers.hints import Hint, Hints, masks
from tiphys.kubelet.managers.layout import Layout
from tiphys.kubelet.podspec import Object, init_containers, is_sidecar, main_containers, uid_of
from tiphys.kubelet.resources import amounts, qos_class


class NoMemory(TiphysError):
    """No NUMA nodes have so much left."""


@dataclass(frozen=True, slots=True)
class Block:
    """So many bytes of one resource on these NUMA nodes together."""

    resource: str
    size: int
    nodes: frozenset[int]


def wanted_memory(pod: Object, container: Object) -> dict[str, int]:
    """Bytes of memory and huge pages that are to be placed; {}: it may be anywhere."""
    if qos_class(pod) != "Guaranteed" or pod["spec"].get("resources"):
        return {}
    requests = amounts((container.get("resources") or {}).get("requests"))
    return {
        name: amount.value
        for name, amount in requests.items()
        if (name == "memory" or name.startswith(HUGEPAGES)) and amount.value
    }


@dataclass(slots=True)
class StaticMemory:
    """Who has what where. `reserved`: NUMA node -> resource -> bytes. `entries`: pod UID -> container -> blocks."""

    layout: Layout
    reserved: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    entries: dict[str, dict[str, tuple[Block, ...]]] = field(default_factory=dict)

    def of(self, uid: str, container: str) -> tuple[Block, ...]:
        """What a container has."""
        return self.entries.get(uid, {}).get(container, ())

    def nodes_of(self, uid: str, container: str) -> frozenset[int]:
        """The NUMA nodes that it is kept to; empty: any."""
        return frozenset().union(*(block.nodes for block in self.of(uid, container)))

    def allocatable(self, node: int, resource: str) -> int:
        """Bytes that can be had at all."""
        total = self.layout.memory.get(node, {}).get(resource, 0)
        return max(0, total - self.reserved.get(node, {}).get(resource, 0))

    def _blocks(self) -> Iterable[Block]:
        for containers in self.entries.values():
            for blocks in containers.values():
                yield from blocks

    def free(self, nodes: frozenset[int], resource: str) -> int:
        """Bytes left on these nodes together."""
        total = sum(self.allocatable(node, resource) for node in nodes)
        return total - sum(
            block.size for block in self._blocks() if block.resource == resource and block.nodes <= nodes
        )

    def _allowed(self, nodes: frozenset[int]) -> bool:
        """A node that serves some group of nodes serves no other one."""
        return all(block.nodes == nodes or block.nodes.isdisjoint(nodes) for block in self._blocks() if block.size)

    def hints(self, pod: Object, container: Object) -> Hints:
        """Which NUMA nodes have enough."""
        wanted = wanted_memory(pod, container)
        held = self.of(uid_of(pod), container["name"])
        if held:
            return {block.resource: [(block.nodes, True)] for block in held}
        return {name: self._generate(pod, wanted, name) for name in wanted}

    def _generate(self, pod: Object, wanted: Mapping[str, int], resource: str) -> list[Hint]:
        found, least = [], len(self.layout.nodes)
        for mask in masks(self.layout.nodes):
            if all(sum(self.allocatable(node, name) for node in mask) >= size for name, size in wanted.items()):
                least = min(least, len(mask))
            reusable = {name: self._reusable(pod, mask, name) for name in wanted}
            enough = all(self.free(mask, name) + reusable[name] >= size for name, size in wanted.items())
            if enough and (self._allowed(mask) or any(reusable.values())):
                found.append(mask)
        return [(mask, len(mask) == least) for mask in found]

    def _reusable(self, pod: Object, nodes: frozenset[int], resource: str) -> int:
        return sum(
            block.size
            for name in _ending(pod)
            for block in self.of(uid_of(pod), name)
            if block.nodes == nodes and block.resource == resource
        )

    def allocate(self, pod: Object, container: Object, nodes: frozenset[int] | None) -> bool:
        """Give it its memory on these NUMA nodes, or where there is some. Raises NoMemory."""
        wanted, uid = wanted_memory(pod, container), uid_of(pod)
        if not wanted or self.of(uid, container["name"]):
            return False
        best = self._place(pod, wanted, nodes)
        for name in wanted:
            self._take_back(pod, best, name, wanted[name])
        blocks = tuple(Block(name, size, best) for name, size in sorted(wanted.items()))
        self.entries.setdefault(uid, {})[container["name"]] = blocks
        return True

    def _place(self, pod: Object, wanted: Mapping[str, int], nodes: frozenset[int] | None) -> frozenset[int]:
        hints = self._generate(pod, wanted, "memory")
        candidates = [mask for mask, preferred in sorted(hints, key=lambda one: not one[1]) if mask is not None]
        if nodes is not None:
            if nodes in candidates:
                return nodes
            wider = [mask for mask in candidates if nodes <= mask]
            candidates = wider or ([] if len(nodes) > 1 else candidates)
        if not candidates:
            why = "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
            raise NoMemory(f"[memorymanager] {why}")
        return candidates[0]

    def _take_back(self, pod: Object, nodes: frozenset[int], resource: str, size: int) -> None:
        """What init containers had on the same nodes serves the container after them."""
        uid = uid_of(pod)
        for name in _ending(pod):
            kept = []
            for block in self.of(uid, name):
                if block.nodes == nodes and block.resource == resource:
                    taken = min(block.size, size)
                    size -= taken
                    kept.append(Block(resource, block.size - taken, nodes))
                else:
                    kept.append(block)
            if kept:
                self.entries[uid][name] = tuple(kept)

    def release(self, uid: str) -> bool:
        """A pod is over; whether anything changed."""
        return self.entries.pop(uid, None) is not None


def _ending(pod: Object) -> list[str]:
    """Init containers that will have ended when others run."""
    return [one["name"] for one in init_containers(pod) if not is_sidecar(one)] if main_containers(pod) else []
