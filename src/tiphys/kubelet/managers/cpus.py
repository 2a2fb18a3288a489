"""The static CPU manager: guaranteed containers that ask for whole CPUs have them for themselves. Pure state.

All others share what is left. An init container's CPUs go on to the containers after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tiphys.api.quantity import from_units
from tiphys.base.errors import TiphysError
from tiphys.kubelet.cpusets import format_cpus
from tiphys.kubelet.managers.hints import Hint, Hints, masks
from tiphys.kubelet.managers.layout import Layout
from tiphys.kubelet.managers.picking import pick, pick_across_nodes
from tiphys.kubelet.podspec import Object, init_containers, is_sidecar, uid_of
from tiphys.kubelet.resources import amounts, qos_class, zero


class Misaligned(TiphysError):
    """Whole cores are wanted and cannot be had."""


class WrongState(TiphysError):
    """What was written down does not fit this machine or configuration."""


@dataclass(frozen=True, slots=True)
class Options:
    """cpuManagerPolicyOptions."""

    full_cores: bool = False
    across_nodes: bool = False
    across_cores: bool = False
    strict_reservation: bool = False
    by_socket: bool = False


def exclusive_cpus(pod: Object, container: Object) -> int:
    """How many CPUs it is to have for itself; 0: it shares."""
    if qos_class(pod) != "Guaranteed" or pod["spec"].get("resources"):
        return 0
    cpu = zero(amounts((container.get("resources") or {}).get("requests")), "cpu")
    return cpu.value if cpu == from_units(cpu.value) else 0


@dataclass(slots=True)
class StaticCpus:
    """Who has which CPUs. `entries`: pod UID -> container -> CPUs."""

    layout: Layout
    reserved: frozenset[int]
    options: Options = field(default_factory=Options)
    shared: frozenset[int] = frozenset()
    entries: dict[str, dict[str, frozenset[int]]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises WrongState."""
        usable = self.layout.all_cpus - (self.reserved if self.options.strict_reservation else frozenset())
        if not self.shared:
            if self.entries:
                raise WrongState("default cpuset cannot be empty")
            self.shared = usable
            return
        both = self.reserved & self.shared
        if self.options.strict_reservation and both:
            text = f'some of strictly reserved cpus: "{format_cpus(both)}" are present in defaultCpuSet'
            raise WrongState(f'{text}: "{format_cpus(self.shared)}"')
        if not self.options.strict_reservation and both != self.reserved:
            text = f'not all reserved cpus: "{format_cpus(self.reserved)}" are present in defaultCpuSet'
            raise WrongState(f'{text}: "{format_cpus(self.shared)}"')
        known = set(self.shared)
        for uid, containers in self.entries.items():
            for name, cpus in containers.items():
                if cpus & self.shared:
                    text = f'pod: {uid}, container: {name} cpuset: "{format_cpus(cpus)}" overlaps with default cpuset'
                    raise WrongState(f'{text} "{format_cpus(self.shared)}"')
                known |= cpus
        if known != usable:
            text = f'current set of available CPUs "{format_cpus(usable)}" doesn\'t match with CPUs in state'
            raise WrongState(f'{text} "{format_cpus(known)}"')

    def of(self, uid: str, container: str) -> frozenset[int]:
        """What a container has for itself; empty when it shares."""
        return self.entries.get(uid, {}).get(container, frozenset())

    @property
    def allocatable(self) -> frozenset[int]:
        """What can be had at all."""
        return self.layout.all_cpus - self.reserved

    def _reusable(self, pod: Object, container: Object) -> frozenset[int]:
        """Of init containers before it that will have ended."""
        own = self.entries.get(uid_of(pod), {})
        names = [
            one["name"] for one in init_containers(pod) if not is_sidecar(one) and one["name"] != container["name"]
        ]
        lasting = {one["name"] for one in init_containers(pod) if is_sidecar(one)}
        lasting |= {one["name"] for one in pod["spec"].get("containers") or ()}
        given = frozenset().union(*(own.get(name, frozenset()) for name in names))
        return given - frozenset().union(*(own.get(name, frozenset()) for name in lasting))

    def hints(self, pod: Object, container: Object) -> Hints:
        """Which NUMA nodes have enough."""
        count = exclusive_cpus(pod, container)
        if not count:
            return {}
        if held := self.of(uid_of(pod), container["name"]):
            return {"cpu": self._generate(held, frozenset(), count) if len(held) == count else ()}
        return {"cpu": self._generate(self.shared - self.reserved, self._reusable(pod, container), count)}

    def _generate(self, free: frozenset[int], reusable: frozenset[int], count: int) -> list[Hint]:
        found, least = [], len(self.layout.nodes)
        for mask in masks(self.layout.nodes):
            near = self.layout.on(mask)
            if len(near - self.reserved) >= count:
                least = min(least, len(mask))
            if reusable <= near and len((free | reusable) & near) >= count:
                found.append(mask)
        return [(mask, self._prefers(mask, least)) for mask in found]

    def _prefers(self, mask: frozenset[int], least: int) -> bool:
        if not self.options.by_socket:
            return len(mask) == least
        sockets = {cpu.socket for cpu in self.layout.cpus if cpu.node in mask}
        each = len(self.layout.nodes) / max(1, len({cpu.socket for cpu in self.layout.cpus}))
        return len(sockets) <= max(1, -(-least // max(1, int(each))))

    def allocate(self, pod: Object, container: Object, nodes: frozenset[int] | None) -> bool:
        """Give it its CPUs, on these NUMA nodes first; whether anything changed. Raises Misaligned, NotEnough."""
        count, uid = exclusive_cpus(pod, container), uid_of(pod)
        if not count or self.of(uid, container["name"]):
            return False
        if self.options.full_cores:
            self._check_cores(count)
        free = (self.shared - self.reserved) | self._reusable(pod, container)
        taken: frozenset[int] = frozenset()
        choose = self._choose()
        if nodes is not None:
            near = free & self.layout.on(nodes)
            taken = choose(near, min(count, len(near)))
        taken |= choose(free - taken, count - len(taken))
        self.shared -= taken
        self.entries.setdefault(uid, {})[container["name"]] = taken
        return True

    def _choose(self) -> Callable[[frozenset[int], int], frozenset[int]]:
        layout, options = self.layout, self.options
        if options.across_nodes:
            group = layout.threads_per_core if options.full_cores else 1
            return lambda free, count: pick_across_nodes(layout, free, count, group)
        return lambda free, count: pick(layout, free, count, spread_cores=options.across_cores)

    def _check_cores(self, count: int) -> None:
        each = self.layout.threads_per_core
        if count % each:
            text = f"requested {count} cpus not multiple cpus per core = {each}"
            raise Misaligned(f"SMT Alignment Error: {text}")
        free = len(self.shared - self.layout.whole_cores(self.reserved))
        if count > free:
            numbers = f"available physical CPUs = {free}, requested CPUs = {count}, CPUs per core = {each}"
            raise Misaligned(f"SMT Alignment Error: not enough free physical CPUs: {numbers}")

    def release(self, uid: str) -> bool:
        """A pod is over; whether anything changed."""
        held = self.entries.pop(uid, None)
        if held is None:
            return False
        self.shared |= frozenset().union(*held.values())
        return True
