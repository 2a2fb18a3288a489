"""EndpointSlice (API reference, discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, count_labels, setdefaults
from tiphys.api.validation.addresses import canonical_ip, endpoint_ip, ip_warnings, is_ipv6, legacy_ip
from tiphys.api.validation.containers import PROTOCOLS
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import labels
from tiphys.api.validation.names import dns_label, dns_subdomain, label_value, qualified_name

Struct = Mapping[str, Any]

_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS, _MAX_TOPOLOGY, _MAX_HINTS = 1000, 100, 20000, 16, 8
_HOST, _FORMER = "kubernetes.io/hostname", "v1beta1"


class EndpointSlice(PlainKind):
    group, plural, kind = "discovery.k8s.io", "endpointslices", "EndpointSlice"
    revalidates_metadata = True
    counts_generation = True
    columns = (
        printing.NAME,
        Column("AddressType", description="@EndpointSlice.addressType"),
        Column("Ports", description="@EndpointSlice.ports"),
        Column("Endpoints", description="@EndpointSlice.endpoints"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        for port in obj.get("ports") or ():
            setdefaults(port, name="", protocol="TCP")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        if context.version != _FORMER:
            _drop_topology(obj, frozenset())

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        before = old.get("endpoints") or ()
        if context.version != _FORMER and (new.get("endpoints") or ()) != before:
            _drop_topology(new, frozenset((one.get("deprecatedTopology") or {}).get(_HOST, "") for one in before))
        count_labels(new, old, "labels")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        kind = obj.get("addressType", "")
        errors.enum("addressType", kind, ("FQDN", "IPv4", "IPv6"))
        _ports(errors, obj.get("ports") or ())
        _endpoints(errors, obj.get("endpoints") or (), kind)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        kind = new.get("addressType", "")
        errors.enum("addressType", kind, ("FQDN", "IPv4", "IPv6"))
        _ports(errors, new.get("ports") or ())
        if new.get("endpoints") != old.get("endpoints"):
            _endpoints(errors, new.get("endpoints") or (), kind)
        errors.immutable("addressType", kind, old.get("addressType"))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        found = []
        if old is None and obj.get("addressType") == "FQDN":
            found.append("spec.addressType: FQDN endpoints are deprecated")
        for i, endpoint in enumerate(obj.get("endpoints") or ()):
            for j, address in enumerate(endpoint.get("addresses") or ()):
                found += ip_warnings(f"endpoints[{i}].addresses[{j}]", address)
        return found

    def cells(self, obj: Object, now: float) -> list[Any]:
        ports = [_port_text(port) for port in obj.get("ports") or ()]
        addresses = [address for e in obj.get("endpoints") or () for address in e.get("addresses") or ()]
        return [
            printing.name(obj),
            obj.get("addressType", ""),
            printing.cut_list(ports),
            printing.cut_list(addresses),
            printing.age(obj, now),
        ]


def _drop_topology(obj: MutableObject, known: frozenset[str]) -> None:
    """What only the former version writes. It named the node there: a node that was `known` before stays named."""
    for endpoint in obj.get("endpoints") or ():
        topology = endpoint.pop("deprecatedTopology", None) or {}
        node = topology.get(_HOST, "")
        if node and endpoint.get("nodeName") is None and node in known and not dns_subdomain(node):
            endpoint["nodeName"] = node


def _port_text(port: Struct) -> str:
    if port.get("port") is not None:
        return str(port["port"])
    return "*" if port.get("name") is None else str(port["name"])


def _ports(errors: Errors, ports: Sequence[Struct]) -> None:
    if len(ports) > _MAX_PORTS:
        errors.too_many("ports", len(ports), _MAX_PORTS)
        return
    names: set[str] = set()
    for i, port in enumerate(ports):
        path, name = f"ports[{i}]", port.get("name") or ""
        if name:
            errors.each(f"{path}.name", name, dns_label(name))
        if name in names:
            errors.duplicate(f"{path}.name", name)
        names.add(name)
        if port.get("protocol") is None:
            errors.required(f"{path}.protocol")
        errors.one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        if (protocol := port.get("appProtocol")) is not None:
            errors.each(f"{path}.appProtocol", protocol, qualified_name(protocol))


def _endpoints(errors: Errors, endpoints: Sequence[Struct], kind: str) -> None:
    if len(endpoints) > _MAX_ENDPOINTS:
        errors.too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)
        return
    for i, endpoint in enumerate(endpoints):
        path = f"endpoints[{i}]"
        _addresses(errors, f"{path}.addresses", endpoint.get("addresses") or (), kind)
        if (node := endpoint.get("nodeName")) is not None:
            errors.each(f"{path}.nodeName", node, dns_subdomain(node))
        topology = endpoint.get("deprecatedTopology") or {}
        if len(topology) > _MAX_TOPOLOGY:
            errors.too_many(f"{path}.deprecatedTopology", len(topology), _MAX_TOPOLOGY)
        labels(errors, f"{path}.deprecatedTopology", topology)
        if (host := endpoint.get("hostname")) is not None:
            errors.each(f"{path}.hostname", host, dns_label(host))
        if hints := endpoint.get("hints"):
            _hints(errors, f"{path}.hints", hints)


def _addresses(errors: Errors, path: str, addresses: Sequence[str], kind: str) -> None:
    if not addresses:
        errors.required(path, "must contain at least 1 address")
    elif len(addresses) > _MAX_ADDRESSES:
        errors.too_many(path, len(addresses), _MAX_ADDRESSES)
    for i, address in enumerate(addresses):
        where = f"{path}[{i}]"
        if kind == "FQDN":
            full_domain_name(errors, where, address)
            continue
        if kind not in ("IPv4", "IPv6"):
            continue
        count = len(errors)
        (legacy_ip if kind == "IPv4" else canonical_ip)(errors, where, address)
        if len(errors) == count:
            if is_ipv6(address) != (kind == "IPv6"):
                errors.invalid(path, address, f"must be an {kind} address")
            endpoint_ip(errors, where, address)


def full_domain_name(errors: Errors, path: str, name: str) -> None:
    """A domain name of two labels or more."""
    if not errors.non_empty(path, name):
        return
    name = name.removesuffix(".")
    if found := dns_subdomain(name):
        errors.invalid(path, name, ",".join(found))
    elif "." not in name:
        errors.invalid(path, name, "should be a domain with at least two segments separated by dots")
    else:
        for label in name.split("."):
            if found := dns_label(label):
                errors.invalid(path, label, ",".join(found))
                return


def _hints(errors: Errors, path: str, hints: Struct) -> None:
    for field, check in (("forZones", label_value), ("forNodes", dns_subdomain)):
        listed = hints.get(field) or ()
        if len(listed) > _MAX_HINTS:
            errors.too_many(f"{path}.{field}", len(listed), _MAX_HINTS)
            return
        names: set[str] = set()
        for i, hint in enumerate(listed):
            where, name = f"{path}.{field}[{i}].name", hint.get("name", "")
            if name in names:
                errors.duplicate(where, name)
            names.add(name)
            errors.each(where, name, check(name))
