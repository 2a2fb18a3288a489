"""How fast lost nodes may be given up: if many of a zone are lost at once, it is rather the network. Pure.

A zone that works loses a node every ten seconds. One that is mostly lost gives up none, if it is small, or few; and
while not a single node of the cluster is ready none are given up at all, and what was done is taken back. (Kubernetes
documentation, "Nodes", rate limits on eviction.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from tiphys.client.types import Object
from tiphys.controllers.objects import labels

_EXCLUDED = "node.kubernetes.io/exclude-disruption"
_FEW = 2
"""So many lost nodes never make a zone disrupted in part."""


class State(Enum):
    """What the ready conditions of a zone's nodes say of it."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


class Shift(Enum):
    """A change for the whole cluster: no node is ready any more, or one is again."""

    LOST = "lost"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """How fast nodes may be given up; upstream's defaults."""

    rate: float = 0.1
    """Nodes a second while the zone is healthy, or wholly lost but not the only one."""
    secondary_rate: float = 0.01
    unhealthy: float = 0.55
    """From this share of nodes that are not ready (and at least three) the zone is disrupted in part."""
    large: int = 50
    """Zones of no more nodes give up none while they are."""

    def state(self, ready: int, lost: int) -> State:
        """The state of a zone with so many nodes."""
        if ready == 0 and lost > 0:
            return State.FULL
        if lost > _FEW and lost / (lost + ready) >= self.unhealthy:
            return State.PARTIAL
        return State.NORMAL

    def rate_of(self, state: State, size: int) -> float:
        """Nodes a second that a zone in this state may lose."""
        if state is not State.PARTIAL:
            return self.rate
        return self.secondary_rate if size > self.large else 0.0


@dataclass(slots=True)
class Zone:
    """One zone: its nodes, the one token that grows at `rate`, and who waits for it, the first in front."""

    rate: float
    next_token: float = -math.inf
    members: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    state: State | None = None
    waiting: dict[str, None] = field(default_factory=dict)

    def take(self, name: str, now: float) -> bool:
        """Whether the node `name` may be given up now; if not, it is in the queue afterwards."""
        self.waiting.setdefault(name)
        if self.first() != name or now < self.next_token:
            return False
        del self.waiting[name]
        self.next_token = now + 1 / self.rate if self.rate > 0 else math.inf
        return True

    def first(self) -> str | None:
        return next(iter(self.waiting), None)

    def swap(self, rate: float, now: float) -> None:
        """Go on at another rate; where there was no token, one has to grow first."""
        if rate == self.rate:
            return
        drained = now < self.next_token
        self.rate = rate
        if rate <= 0:
            self.next_token = math.inf
        else:
            self.next_token = now + 1 / rate if drained else now


class Zones:
    """All zones, and the state of the cluster."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self._policy = policy
        self._zones: dict[str, Zone] = {}
        self._zone_of: dict[str, str] = {}
        self.lost = False
        """Whether the last ready node of the cluster was lost (not deleted)."""

    def observe(self, name: str, node: Object | None, *, ready: bool) -> bool:
        """Note how the node is (None: it is gone). True if the zones have to be settled."""
        key = zone_of(node) if node is not None else None
        counted = node is not None and _EXCLUDED not in labels(node)
        before = self._zone_of.get(name)
        if before is not None and before != key:
            self._drop(name)
        if key is None:
            return before is not None
        zone = self._zones.setdefault(key, Zone(self._policy.rate))
        zone.members.add(name)
        self._zone_of[name] = key
        group = (zone.ready if ready else zone.lost) if counted else None
        changed = any((name in each) != (each is group) for each in (zone.ready, zone.lost))
        for each in (zone.ready, zone.lost):
            each.discard(name)
        if group is not None:
            group.add(name)
        return changed or before != key

    def settle(self, now: float) -> Shift | None:
        """Give each zone the rate of its state; tells if all of the cluster was lost, or is back."""
        self._zones = {key: zone for key, zone in self._zones.items() if zone.members}
        zones = [zone for zone in self._zones.values() if zone.ready or zone.lost]
        states = [self._policy.state(len(zone.ready), len(zone.lost)) for zone in zones]
        lost = bool(zones) and all(state is State.FULL for state in states)
        was_lost = bool(zones) and all(zone.state is State.FULL for zone in zones)
        if lost:
            for zone in zones:
                zone.state = State.FULL
                if not was_lost:
                    zone.swap(0.0, now)
            self.lost = self.lost or not was_lost
            return None if was_lost else Shift.LOST
        for zone, state in zip(zones, states, strict=True):
            if was_lost or zone.state is not state:
                zone.swap(self._policy.rate_of(state, len(zone.ready) + len(zone.lost)), now)
                zone.state = state
        self.lost = False
        return Shift.BACK if was_lost else None

    def take(self, name: str, now: float) -> bool:
        """Whether the node may be given up now; if not, it waits for its turn."""
        return self._zones[self._zone_of[name]].take(name, now)

    def withdraw(self, name: str) -> bool:
        """The node is not to be given up any more; tells if it waited for that."""
        zone = self._zones.get(self._zone_of.get(name, ""))
        if zone is None or name not in zone.waiting:
            return False
        del zone.waiting[name]
        return True

    def turns(self, now: float) -> Iterable[tuple[str, float]]:
        """The nodes that are next, with the seconds until it is their turn."""
        for zone in self._zones.values():
            first = zone.first()
            if first is not None and zone.next_token < math.inf:
                yield first, max(0.0, zone.next_token - now)

    def _drop(self, name: str) -> None:
        zone = self._zones[self._zone_of.pop(name)]
        for each in (zone.members, zone.ready, zone.lost):
            each.discard(name)
        zone.waiting.pop(name, None)


def zone_of(node: Object) -> str:
    """The name of its region and zone; the old labels come first, as in upstream."""
    present = labels(node)
    region, zone = (
        present.get(f"failure-domain.beta.kubernetes.io/{each}", present.get(f"topology.kubernetes.io/{each}", ""))
        for each in ("region", "zone")
    )
    return f"{region}/{zone}"
