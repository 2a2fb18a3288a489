"""Topology mode Auto: endpoints are shared out among zones in proportion to the zones' allocatable CPUs (KEP-2433).

Each zone first gets its own endpoints; zones that have more than their share then give some to those that have less.
Where that cannot be done without overloading one of them there are no hints at all, and an event says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tiphys.api import quantity
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.types import Object
from tiphys.controllers import nodes as nodelib
from tiphys.controllers import slice_hints as hints
from tiphys.controllers.objects import labels, status
from tiphys.controllers.slice_hints import Event, Hinted, with_hints
from tiphys.controllers.slice_packing import Slice, endpoints_of

ZONE = "topology.kubernetes.io/zone"
_OVERLOAD = 0.2
"""How much more than its share a zone's endpoints may have to bear."""
_EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_ENABLED, _DISABLED = "TopologyAwareHintsEnabled", "TopologyAwareHintsDisabled"

_NO_ZONE = "One or more endpoints do not have a zone specified"
_NO_HINTS = "No hints allocated for zones"
_ON = "Topology Aware Hints has been enabled"
_OFF = "Topology Aware Hints has been disabled"
_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
_TOO_FEW = "Insufficient number of endpoints"
_OVERLOADED = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"


@dataclass(frozen=True, slots=True)
class Share:
    """A zone's part of the endpoints of a Service: at least, at most, and exactly."""

    minimum: int
    maximum: int
    desired: float


class Topology:
    """What is known of zones, and which Services have hints by it. `nodes` lists the nodes that are there now."""

    def __init__(self, nodes: Callable[[], Iterable[Object]]) -> None:
        self._nodes = nodes
        self._known: dict[str, float] | None = None
        self._given: dict[str, dict[str, dict[str, int]]] = {}
        """By Service and address family: how many endpoints are meant for each zone."""

    def nodes_changed(self) -> None:
        """Zones are worked out anew when they are needed next."""
        self._known = None

    @property
    def _ratios(self) -> dict[str, float]:
        if self._known is None:
            self._known = cpu_ratios(self._nodes())
        return self._known

    def overloaded(self) -> list[str]:
        """Services whose hints do not fit the zones any more."""
        return [
            key
            for key, families in self._given.items()
            if any(_overloaded(given, self._ratios) for given in families.values())
        ]

    def has_hints(self, key: str) -> bool:
        return key in self._given

    def forget(self, key: str, family: str) -> None:
        families = self._given.get(key, {})
        families.pop(family, None)
        if not families:
            self._given.pop(key, None)

    def disable(self, key: str, family: str, hinted: Hinted) -> None:
        """The Service does not ask for hints (any more)."""
        if self.has_hints(key):
            hinted.events.append(_event(WARNING, _DISABLED, _OFF, family))
        self.forget(key, family)

    def assign(self, key: str, family: str, hinted: Hinted) -> None:
        """Give hints to the endpoints of a Service, or take them away if that is not possible."""
        total = hints.count_ready([*hinted.written(), *hinted.unchanged])
        shares, problem = self._shares(total)
        if not problem:
            given = _kept(hinted, shares)
            problem = _own_zones(hinted.written(), given) or ("" if given else _NO_HINTS)
        if problem:
            hinted.events.append(_event(WARNING, _DISABLED, problem, family))
            self.forget(key, family)
            hints.remove(hinted)
            return
        _redistribute(hinted.written(), *_transfers(shares, given), given)
        if not self.has_hints(key) and hinted.written():  # a start that finds them all says nothing
            hinted.events.append(_event(NORMAL, _ENABLED, _ON, family))
        self._given.setdefault(key, {})[family] = given

    def _shares(self, total: int) -> tuple[dict[str, Share], str]:
        """Each zone's share, or why there is none."""
        if not self._ratios:
            return {}, _NODES
        counted = f"({total} endpoints, {len(self._ratios)} zones)"
        if len(self._ratios) > total:
            return {}, f"{_TOO_FEW} {counted}"
        least = {zone: math.ceil(ratio * total / (1 + _OVERLOAD)) for zone, ratio in self._ratios.items()}
        spare = total - sum(least.values())
        if spare < 0:
            return {}, f"{_OVERLOADED} {counted}"
        return {
            zone: Share(least[zone], least[zone] + spare, max(ratio * total, least[zone]))
            for zone, ratio in self._ratios.items()
        }, ""


def _event(kind: str, reason: str, message: str, family: str) -> Event:
    return kind, reason, f"{message}, addressType: {family}"


def cpu_ratios(nodes: Iterable[Object]) -> dict[str, float]:
    """Each zone's part of all CPUs; nothing if a node does not say, or if there is only one zone."""
    cpus: dict[str, int] = {}
    for node in nodes:
        if any(label in labels(node) for label in _EXCLUDED) or not nodelib.is_ready(node):
            continue
        zone, cpu = labels(node).get(ZONE), _milli_cpus(node)
        if not zone or not cpu:
            return {}
        cpus[zone] = cpus.get(zone, 0) + cpu
    total = sum(cpus.values())
    return {zone: cpu / total for zone, cpu in sorted(cpus.items())} if len(cpus) > 1 else {}


def _milli_cpus(node: Object) -> int:
    text = str((status(node).get("allocatable") or {}).get("cpu") or "0")
    return quantity.parse(text).nanos // 1_000_000 if quantity.is_quantity(text) else 0


def _kept(hinted: Hinted, shares: Mapping[str, Share]) -> dict[str, int]:
    """What unchanged slices give to each zone; one whose hints do not do is changed."""
    given: dict[str, int] = {}
    for held in list(hinted.unchanged):
        zones = _zones_of(held, given, shares)
        if zones is None:
            hinted.take(held)
        else:
            for zone, number in zones.items():
                given[zone] = given.get(zone, 0) + number
    return given


def _zones_of(held: Object, given: Mapping[str, int], shares: Mapping[str, Share]) -> dict[str, int] | None:
    zones: dict[str, int] = {}
    for each in endpoints_of(held):
        if not hints.ready(each):
            continue
        names = [one["name"] for one in (each.get("hints") or {}).get("forZones") or ()]
        if not names or any(zone not in shares for zone in names):
            return None
        for zone in names:
            zones[zone] = zones.get(zone, 0) + 1
    fits = all(number + given.get(zone, 0) <= shares[zone].maximum for zone, number in zones.items())
    return zones if fits else None


def _own_zones(slices: Iterable[Slice], given: dict[str, int]) -> str:
    """Begin with every endpoint in its own zone; returns why that cannot be done."""
    for held in slices:
        out = []
        for each in endpoints_of(held):
            zone = each.get("zone")
            if not hints.ready(each):
                out.append(each)
                continue
            if not zone:
                return _NO_ZONE
            given[zone] = given.get(zone, 0) + 1
            out.append(with_hints(each, {"forZones": [{"name": zone}]}))
        held["endpoints"] = out
    return ""


def _transfers(shares: Mapping[str, Share], given: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """How many endpoints each zone gives away, and how many each gets."""
    surplus = {zone: given.get(zone, 0) - share.desired for zone, share in shares.items()}
    giving = {zone: more for zone, more in surplus.items() if more > 0}
    lacking = {zone: -more for zone, more in surplus.items() if more < 0}
    gives: dict[str, int] = {}
    gets: dict[str, int] = {}
    while giving and lacking:
        giver = max(giving, key=lambda zone: giving[zone])
        getter = max(lacking, key=lambda zone: lacking[zone])
        most, least = giving[giver], lacking[getter]
        if (most < 1 and least < 1) or most < 1 / 2 or least < 1 / 2:
            break
        gives[giver], gets[getter] = gives.get(giver, 0) + 1, gets.get(getter, 0) + 1
        giving[giver] -= 1
        lacking[getter] -= 1
    return gives, gets


def _redistribute(slices: Iterable[Slice], gives: dict[str, int], gets: dict[str, int], given: dict[str, int]) -> None:
    for held in slices:
        for number, each in enumerate(held["endpoints"]):
            zone = each.get("zone")
            getter = next((one for one, left in gets.items() if left > 0), None)
            if getter is None:
                return
            if not hints.ready(each) or gives.get(zone, 0) <= 0:
                continue
            held["endpoints"][number] = with_hints(each, {"forZones": [{"name": getter}]})
            gives[zone] -= 1
            gets[getter] -= 1
            given[getter] = given.get(getter, 0) + 1
            given[zone] -= 1


def _overloaded(given: Mapping[str, int], ratios: Mapping[str, float]) -> bool:
    if not given:
        return False
    total = sum(given.values())
    return not ratios or any(
        zone not in given or given[zone] < math.ceil(total * ratio / (1 + _OVERLOAD)) for zone, ratio in ratios.items()
    )
