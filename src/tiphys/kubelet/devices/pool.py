"""Which devices there are, and which of them a container gets. Pure.

Rules and words of errors are upstream's device manager's: devices of the pod's finished init containers first, then
those on the NUMA nodes that the topology manager chose, of these what the plugin prefers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tiphys.base.errors import TiphysError
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.resources import amounts


class AllocationError(TiphysError):
    """A container cannot have the devices that it asks for."""


@dataclass(frozen=True, slots=True)
class Device:
    id: str
    healthy: bool
    nodes: tuple[int, ...] = ()
    """NUMA nodes that it is near to."""


@dataclass(slots=True)
class Pool:
    """The devices of one resource."""

    resource: str
    devices: dict[str, Device] = field(default_factory=dict)

    @property
    def healthy(self) -> set[str]:
        return {device.id for device in self.devices.values() if device.healthy}

    def replace(self, devices: Iterable[Device]) -> set[str]:
        """Take a plugin's new list; returns the IDs whose health changed or that came."""
        before, self.devices = self.devices, {device.id: device for device in devices}
        return {id for id, device in self.devices.items() if id not in before or before[id].healthy != device.healthy}

    def fail(self) -> set[str]:
        """The plugin is gone: nothing is healthy. Returns the IDs that were."""
        healthy = self.healthy
        self.devices = {id: Device(id, False, device.nodes) for id, device in self.devices.items()}
        return healthy

    def nodes_of(self, id: str) -> tuple[int, ...]:
        device = self.devices.get(id)
        return device.nodes if device is not None else ()

    @property
    def aligned(self) -> bool:
        """Whether any device says where it is."""
        return any(device.nodes for device in self.devices.values())


@dataclass(frozen=True, slots=True)
class Want:
    """What one container asks of one resource."""

    required: int
    reusable: frozenset[str] = frozenset()
    """Devices of the pod's init containers that have ended by then."""
    in_use: frozenset[str] = frozenset()
    affinity: frozenset[int] | None = None
    """NUMA nodes that the topology manager chose; None: any."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice under way: `taken` are certain, `missing` more are to come from `groups`, the preferred ones first."""

    taken: tuple[str, ...]
    missing: int = 0
    available: frozenset[str] = frozenset()
    """What the plugin may prefer from; `taken` must be in its answer."""
    groups: tuple[tuple[str, ...], ...] = ()


def check(pool: Pool | None, resource: str, held: Iterable[str] | None) -> Pool:
    """Whether anything can be allocated at all. `held` are devices that the container has already. Raises."""
    if pool is None:
        raise AllocationError(f"cannot allocate unregistered device {resource}")
    healthy = pool.healthy
    if not healthy:
        raise AllocationError(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
    if held is not None and not healthy.issuperset(held):
        what = "previously allocated devices are no longer healthy; cannot allocate unhealthy devices"
        raise AllocationError(f"{what} {resource}")
    return pool


def begin(pool: Pool, want: Want) -> Pick:
    """The first half, before the plugin is asked for its preference (needless when nothing is missing). Raises."""
    taken = sorted(want.reusable)[: want.required]
    missing = want.required - len(taken)
    if missing <= 0:
        return Pick(tuple(taken))
    available = pool.healthy - want.in_use - set(taken)
    if len(available) < missing:
        numbers = f"Requested: {missing}, Available: {len(available)}"
        raise AllocationError(f"requested number of devices unavailable for {pool.resource}. {numbers}")
    near, far, anywhere = _by_affinity(pool, available, want.affinity)
    if missing < len(near):
        return Pick(tuple(taken), missing, frozenset({*near, *taken}), (tuple(near),))
    taken += near
    return Pick(
        tuple(taken), want.required - len(taken), frozenset({*available, *taken}), (tuple(far), tuple(anywhere))
    )


def finish(pool: Pool, want: Want, pick: Pick, preferred: Sequence[str] = ()) -> tuple[str, ...]:
    """The devices, with the plugin's preference followed as far as it can be. Raises."""
    taken = list(pick.taken)
    candidates = {id for group in pick.groups for id in group}
    for id in (*(id for id in preferred if id in candidates), *(id for group in pick.groups for id in group)):
        if len(taken) < want.required and id not in taken:
            taken.append(id)
    if len(taken) < want.required:
        numbers = f"Requested: {want.required}, Got: {len(taken)}"
        raise AllocationError(f"unexpectedly allocated less resources than required. {numbers}")
    return tuple(taken)


def _by_affinity(
    pool: Pool, available: set[str], affinity: frozenset[int] | None
) -> tuple[list[str], list[str], list[str]]:
    """On the chosen NUMA nodes, on others, on none; within each those of nodes with fewer devices first."""
    if affinity is None or not pool.aligned:
        return [], [], sorted(available)
    per_node: dict[int, int] = {}
    for id in available:
        for node in pool.nodes_of(id) or (-1,):
            per_node[node] = per_node.get(node, 0) + 1
    near: list[str] = []
    far: list[str] = []
    nowhere: list[str] = []
    order = sorted(per_node, key=lambda node: (node not in affinity, node == -1, per_node[node], node))
    for id in sorted(available):
        first = next(node for node in order if node in (pool.nodes_of(id) or (-1,)))
        (nowhere if first == -1 else near if first in affinity else far).append(id)
    return near, far, nowhere


def asked(pod: Object, container: Object, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(resource, number) for each of the `known` resources that a container asks for; limits equal requests.

    What a driver of dynamic resources serves in the place of a plugin is left out."""
    limits = amounts((container.get("resources") or {}).get("limits"))
    claim = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    served = {
        one["resourceName"] for one in claim.get("requestMappings") or () if one["containerName"] == container["name"]
    }
    for name in sorted((set(known) & set(limits)) - served):
        yield name, limits[name].value
