"""How endpoints with the same ports are packed into EndpointSlices: pure, with as few writes as possible.

Endpoints stay where they are. Slices that change anyway are filled up first, fullest first; what is left over goes
into one unchanged slice that has room for all of it, else into new ones. Nothing is rebalanced for its own sake: each
moved endpoint would be another write to every watcher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import labels, name

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
RESERVED = frozenset({SERVICE_NAME, MANAGED_BY, HEADLESS})

Endpoint = Mapping[str, Any]
Slice = dict[str, Any]
Identity = tuple[tuple[str, ...], str, str, str]
"""What makes two endpoints the same one: addresses, host name, namespace and name of the pod."""
Ports = tuple[tuple[str, int, str, str], ...]
"""Name, number, protocol and application protocol of each port, in order."""


@dataclass(slots=True)
class Writes:
    """What to do with EndpointSlices. What is created has no name yet."""

    create: list[Slice] = field(default_factory=list)
    update: list[Slice] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def ports_of(ports: Sequence[Mapping[str, Any]] | None) -> Ports:
    """The ports of a slice, for comparison: their order does not count."""
    return tuple(
        sorted(
            (
                each.get("name") or "",
                int(each.get("port") or 0),
                each.get("protocol") or "TCP",
                each.get("appProtocol") or "",
            )
            for each in ports or ()
        )
    )


def identity(endpoint: Endpoint) -> Identity:
    target = endpoint.get("targetRef") or {}
    addresses = endpoint.get("addresses") or ()
    return (
        tuple(addresses if len(addresses) == 1 else sorted(addresses)),
        endpoint.get("hostname") or "",
        target.get("namespace") or "",
        target.get("name") or "",
    )


def by_identity(endpoints: Sequence[Endpoint]) -> dict[Identity, Endpoint]:
    return {identity(each): each for each in endpoints}


def endpoints_of(held: Object) -> Sequence[Endpoint]:
    return held.get("endpoints") or ()


def same(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints of the same identity say the same; hints are somebody else's business."""
    return one == other or _told(one) == _told(other)


def _told(endpoint: Endpoint) -> tuple[Any, ...]:
    conditions = endpoint.get("conditions") or {}
    target = {key: value for key, value in (endpoint.get("targetRef") or {}).items() if key != "resourceVersion"}
    states = tuple(conditions.get(each) for each in ("ready", "serving", "terminating"))
    return endpoint.get("nodeName"), endpoint.get("zone"), states, target


@dataclass(slots=True)
class Packing:
    """One packing: the slices as they are, `wanted` endpoints, which are used up, and what new slices look like."""

    held: Sequence[Object]
    wanted: dict[Identity, Endpoint]
    marks: Mapping[str, str]
    """Labels that the slices should have."""
    template: Slice
    limit: int
    changed: dict[str, Slice] = field(default_factory=dict)
    unchanged: list[Object] = field(default_factory=list)
    emptied: list[Object] = field(default_factory=list)

    def run(self) -> Writes:
        for each in self.held:
            self._keep(each)
        for each in sorted(self.changed.values(), key=lambda one: -len(one["endpoints"])):
            self._fill(each)
        created = []
        while self.wanted:
            roomy = self._with_room()
            if roomy is None:
                created.append({**self.template, "endpoints": []})
                self._fill(created[-1])
            else:
                self.unchanged = [each for each in self.unchanged if each is not roomy]
                self._fill(self._change(roomy, endpoints_of(roomy)))
        return Writes(created, list(self.changed.values()), self.emptied)

    def _keep(self, held: Object) -> None:
        """Drop what is not wanted any more, renew what changed."""
        before = endpoints_of(held)
        kept, differs = [], False
        for each in before:
            found = self.wanted.pop(identity(each), None)
            if found is not None:
                kept.append(found)
                differs = differs or not same(found, each)
        if differs or len(kept) != len(before):
            if kept:
                self._change(held, kept)
            else:
                self.emptied.append(held)
        elif foreign(labels(held)) != foreign(self.marks):
            self._change(held, before)
        else:
            self.unchanged.append(held)

    def _change(self, held: Object, endpoints: Sequence[Endpoint]) -> Slice:
        metadata = {**held["metadata"], "labels": dict(self.marks)}
        self.changed[name(held)] = {**held, "metadata": metadata, "endpoints": list(endpoints)}
        return self.changed[name(held)]

    def _fill(self, slice_: Slice) -> None:
        endpoints = slice_["endpoints"]
        for key in list(self.wanted)[: max(0, self.limit - len(endpoints))]:
            endpoints.append(self.wanted.pop(key))

    def _with_room(self) -> Object | None:
        """The unchanged slice that comes closest to full by taking all that is left."""
        if len(self.wanted) >= self.limit:
            return None
        roomy = [each for each in self.unchanged if len(endpoints_of(each)) <= self.limit - len(self.wanted)]
        return max(roomy, key=lambda each: len(endpoints_of(each)), default=None)


def foreign(marks: Mapping[str, str]) -> dict[str, str]:
    """Labels that are not reserved for controllers of slices."""
    return {key: value for key, value in marks.items() if key not in RESERVED}


def recycle(writes: Writes, reusable: Sequence[Object]) -> None:
    """Rather than delete one slice and create another, make the one into the other."""
    names = {name(each) for each in reusable}
    for held in [each for each in writes.delete if name(each) in names]:
        made = next((each for each in reversed(writes.create) if each["addressType"] == held.get("addressType")), None)
        if made is None:
            continue
        writes.create.remove(made)
        writes.delete.remove(held)
        known = {key: held["metadata"][key] for key in ("name", "resourceVersion") if key in held["metadata"]}
        writes.update.append({**made, "metadata": {**made["metadata"], **known}})
