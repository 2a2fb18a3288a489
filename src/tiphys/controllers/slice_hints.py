"""Hints on the endpoints of EndpointSlices: for which zones or nodes an endpoint is meant.

`spec.trafficDistribution` of a Service (KEP-4444, KEP-3015) gives every ready endpoint to its own zone, and with
PreferSameNode to its own node too. Slices that are not written anyway are written only if their hints are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, spec
from tiphys.controllers.slice_packing import Endpoint, Slice, Writes, endpoints_of

SAME_NODE = "PreferSameNode"
CLOSE = frozenset({"PreferClose", "PreferSameZone", SAME_NODE})
_AUTO = ("Auto", "auto")
_OLD_MODE = "service.kubernetes.io/topology-aware-hints"
_MODE = "service.kubernetes.io/topology-mode"

Event = tuple[str, str, str]
"""Type, reason, message."""


@dataclass(slots=True)
class Hinted:
    """The slices of one address family on their way to the server, hints still to be settled."""

    writes: Writes
    unchanged: list[Object]
    events: list[Event] = field(default_factory=list)

    def written(self) -> list[Slice]:
        return [*self.writes.create, *self.writes.update]

    def take(self, held: Object) -> Slice:
        """Write an unchanged slice after all."""
        self.unchanged = [each for each in self.unchanged if each is not held]
        copy = {**held, "endpoints": list(endpoints_of(held))}
        self.writes.update.append(copy)
        return copy


def topology_mode(service: Object) -> bool:
    """Whether the Service asks for hints by an annotation; then the field does not count."""
    notes = annotations_of(service)
    return notes.get(_OLD_MODE, notes.get(_MODE)) in _AUTO


def distribution(service: Object) -> str:
    """The way in which traffic is spread, "" for none that gives hints."""
    wanted = spec(service).get("trafficDistribution")
    return str(wanted) if wanted in CLOSE and not topology_mode(service) else ""


def ready(endpoint: Endpoint) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is True


def with_hints(endpoint: Endpoint, hints: Mapping[str, Any] | None) -> Endpoint:
    rest = {key: value for key, value in endpoint.items() if key != "hints"}
    return {**rest, "hints": hints} if hints else rest


def distribute(hinted: Hinted, wanted: str) -> None:
    """Give every ready endpoint its hints by `trafficDistribution`."""
    nodes = wanted == SAME_NODE
    for held in list(hinted.unchanged):
        if any(_differs(each, nodes) for each in endpoints_of(held)):
            hinted.take(held)
    for each in hinted.written():
        each["endpoints"] = [with_hints(one, _close(one, nodes)) if ready(one) else one for one in endpoints_of(each)]


def _close(endpoint: Endpoint, nodes: bool) -> dict[str, Any] | None:
    hints: dict[str, Any] = {}
    if endpoint.get("zone") is not None:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if nodes and endpoint.get("nodeName") is not None:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints or None


def _differs(endpoint: Endpoint, nodes: bool) -> bool:
    if not ready(endpoint):
        return False
    wanted, present = _close(endpoint, nodes) or {}, endpoint.get("hints") or {}
    return any((wanted.get(key) or []) != (present.get(key) or []) for key in ("forZones", "forNodes"))


def remove(hinted: Hinted) -> None:
    """Take all hints away."""
    for held in list(hinted.unchanged):
        if any(each.get("hints") is not None for each in endpoints_of(held)):
            hinted.take(held)
    for each in hinted.written():
        each["endpoints"] = [with_hints(one, None) for one in endpoints_of(each)]


def count_ready(slices: Iterable[Object]) -> int:
    return sum(ready(each) for held in slices for each in endpoints_of(held))
