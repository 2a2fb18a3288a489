"""Services and endpoints as the DNS needs them: found by name and by address, kept current change by change. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.dns.names import MAX_LABEL, dashed, from_text, packed

Object = Mapping[str, Any]
Key = tuple[bytes, bytes]
"""Namespace and name of a Service, in lower case."""

SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Port:
    name: bytes
    protocol: bytes
    number: int
    """-1: none is known."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is asked of it. Neither headless nor with an alias: it has addresses."""

    addresses: tuple[bytes, ...] = ()
    ports: tuple[Port, ...] = ()
    alias: bytes = b""
    """The external name, on the wire."""
    headless: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of a pod that is ready, or may be published although it is not."""

    label: bytes
    """Its host name, or else its address with dashes."""
    address: bytes
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The endpoints of a Service from all of its slices, each address once."""

    endpoints: tuple[Endpoint, ...] = ()
    by_label: Mapping[bytes, tuple[Endpoint, ...]] = field(default_factory=dict)


NOBODY = View()


class Index:
    """`version` grows with every change, `serial` is when the last one was (seconds since the epoch)."""

    def __init__(self) -> None:
        self.version = 0
        self.serial = 0
        self.namespaces: set[bytes] | None = None
        """None while they are not known: then any may be there."""
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, dict[str, tuple[Endpoint, ...]]] = {}
        self._views: dict[Key, View] = {}
        self._by_cluster_ip: dict[bytes, Key] = {}
        self._by_endpoint: dict[bytes, dict[tuple[Key, str], bytes]] = {}
        """Address -> Service and slice -> label."""

    def service(self, key: Key) -> Service | None:
        return self._services.get(key)

    def endpoints(self, key: Key) -> View:
        """Of a Service; merged when it is asked for first after a change."""
        view = self._views.get(key)
        if view is None:
            slices = self._slices.get(key)
            if not slices:
                return NOBODY
            view = self._views[key] = _merged(slices.values())
        return view

    def service_at(self, address: bytes) -> Key | None:
        """The Service that has this cluster IP."""
        return self._by_cluster_ip.get(address)

    def endpoints_at(self, address: bytes) -> list[tuple[Key, bytes]]:
        """The Services of which this is an endpoint, and its label there."""
        found = self._by_endpoint.get(address) or {}
        return list(dict.fromkeys((key, label) for (key, _), label in found.items()))

    def has_namespace(self, name: bytes) -> bool:
        return self.namespaces is None or name in self.namespaces

    def service_changed(self, old: Object | None, new: Object | None, now: float) -> None:
        """A subscriber of an informer of Services; `now` in seconds since the epoch."""
        key = _key((new or old or {})["metadata"])
        before = self._services.pop(key, None)
        after = None if new is None else service_of(new)
        if before == after and (before is None) is (after is None):
            if before is not None:
                self._services[key] = before
            return
        for address in before.addresses if before is not None else ():
            if self._by_cluster_ip.get(address) == key:
                del self._by_cluster_ip[address]
        if after is not None:
            self._services[key] = after
            self._by_cluster_ip |= dict.fromkeys(after.addresses, key)
        self._touch(now)

    def slice_changed(self, old: Object | None, new: Object | None, now: float) -> None:
        """A subscriber of an informer of EndpointSlices."""
        before, after = _place(old), _place(new)
        endpoints = endpoints_of(new) if new is not None and after is not None else ()
        if before == after and before is not None and self._slices.get(before[0], {}).get(before[1]) == endpoints:
            return
        for place in {before, after} - {None}:
            if place is not None:
                self._drop(*place)
        if after is not None:
            self._slices.setdefault(after[0], {})[after[1]] = endpoints
            for each in endpoints:
                self._by_endpoint.setdefault(each.address, {})[after] = each.label
        self._touch(now)

    def namespace_changed(self, old: Object | None, new: Object | None, now: float) -> None:
        """A subscriber of an informer of namespaces."""
        name = (new or old or {})["metadata"]["name"].encode()
        known = self.namespaces if self.namespaces is not None else set()
        if (name in known) is (new is not None):
            return
        self.namespaces = known | {name} if new is not None else known - {name}
        self._touch(now)

    def _drop(self, key: Key, slice_name: str) -> None:
        slices = self._slices.get(key, {})
        for each in slices.pop(slice_name, ()):
            owners = self._by_endpoint.get(each.address, {})
            owners.pop((key, slice_name), None)
            if not owners:
                self._by_endpoint.pop(each.address, None)
        if not slices:
            self._slices.pop(key, None)
        self._views.pop(key, None)

    def _touch(self, now: float) -> None:
        self.version += 1
        self.serial = int(now) & 0xFFFFFFFF


def service_of(obj: Object) -> Service | None:
    """What a Service object says; None for one that has no records."""
    spec = obj.get("spec") or {}
    if spec.get("type") == "ExternalName":
        alias = _alias(str(spec.get("externalName") or ""))
        return Service(alias=alias) if alias else None
    given = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    ports = tuple(_port(each) for each in spec.get("ports") or ())
    if given[0] == "None":
        return Service(ports=ports, headless=True)
    addresses = tuple(filter(None, (packed(str(each)) for each in given)))
    return Service(addresses, ports) if addresses else None


def _alias(text: str) -> bytes:
    """An external name that is an address is no name (as in CoreDNS)."""
    try:
        return b"" if not text or packed(text) else from_text(text)
    except ValueError:
        return b""


def endpoints_of(obj: Object) -> tuple[Endpoint, ...]:
    """Those of a slice that are ready; the slice says so of all whose Service publishes what is not ready."""
    ports = tuple(_port(each) for each in obj.get("ports") or ()) or (Port(b"", b"", -1),)
    found = []
    for each in obj.get("endpoints") or ():
        if (each.get("conditions") or {}).get("ready") is False:
            continue
        for text in each.get("addresses") or ():
            if address := packed(str(text)):
                hostname = str(each.get("hostname") or "").lower().encode()[:MAX_LABEL]
                found.append(Endpoint(hostname or dashed(address), address, ports))
    return tuple(found)


def _port(obj: Object) -> Port:
    name, protocol = str(obj.get("name") or ""), str(obj.get("protocol") or "TCP")
    return Port(name.lower().encode(), protocol.lower().encode(), int(obj.get("port", -1)))


def _merged(slices: Iterable[tuple[Endpoint, ...]]) -> View:
    """While an endpoint moves from one slice to another it is in both."""
    endpoints = tuple(dict.fromkeys(each for endpoints in slices for each in endpoints))
    by_label: dict[bytes, tuple[Endpoint, ...]] = {}
    for each in endpoints:
        by_label[each.label] = (*by_label.get(each.label, ()), each)
    return View(endpoints, by_label)


def _key(metadata: Mapping[str, Any]) -> Key:
    return str(metadata.get("namespace") or "").lower().encode(), str(metadata["name"]).lower().encode()


def _place(obj: Object | None) -> tuple[Key, str] | None:
    """The Service and the name of a slice; None if it has no addresses that a name can have."""
    if obj is None or obj.get("addressType") == "FQDN":
        return None
    metadata = obj["metadata"]
    service = (metadata.get("labels") or {}).get(SERVICE_NAME)
    if not service:
        return None
    return (str(metadata["namespace"]).lower().encode(), str(service).lower().encode()), str(metadata["name"])
