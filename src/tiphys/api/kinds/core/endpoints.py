"""Endpoints (API reference, core/v1); deprecated in favour of EndpointSlice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, fill_empty
from tiphys.api.validation.addresses import endpoint_ip, ip_warnings, legacy_ip
from tiphys.api.validation.containers import PROTOCOLS
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_label, dns_subdomain, qualified_name

Struct = Mapping[str, Any]


class Endpoints(PlainKind):
    plural, kind = "endpoints", "Endpoints"
    revalidates_metadata = True
    allow_create_on_update = True
    columns = (printing.NAME, Column("Endpoints", description="@Endpoints.subsets"), printing.AGE)

    def default(self, obj: MutableObject, version: str) -> None:
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                fill_empty(port, protocol="TCP")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        for i, subset in enumerate(obj.get("subsets") or ()):
            _subset(errors, f"subsets[{i}]", subset)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        if new.get("subsets") != old.get("subsets"):
            self.check(errors, new, context)

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        found = []
        if old is None or obj.get("subsets") != old.get("subsets"):
            found.append("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        for i, subset in enumerate(obj.get("subsets") or ()):
            for name in ("addresses", "notReadyAddresses"):
                for j, address in enumerate(subset.get(name) or ()):
                    found += ip_warnings(f"subsets[{i}].{name}[{j}].ip", address.get("ip", ""))
        return found

    def cells(self, obj: Object, now: float) -> list[Any]:
        listed: list[str] = []
        for subset in obj.get("subsets") or ():
            addresses = [address.get("ip", "") for address in subset.get("addresses") or ()]
            ports = subset.get("ports") or ()
            listed += addresses if not ports else [_host_port(a, p.get("port", 0)) for p in ports for a in addresses]
        text = printing.cut_list(listed, empty="") if obj.get("subsets") else printing.NONE
        return [printing.name(obj), text, printing.age(obj, now)]


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _subset(errors: Errors, path: str, subset: Struct) -> None:
    ready, waiting = subset.get("addresses") or (), subset.get("notReadyAddresses") or ()
    if not ready and not waiting:
        errors.required(path, "must specify `addresses` or `notReadyAddresses`")
    for name, addresses in (("addresses", ready), ("notReadyAddresses", waiting)):
        for i, address in enumerate(addresses):
            _address(errors, f"{path}.{name}[{i}]", address)
    ports = subset.get("ports") or ()
    for i, port in enumerate(ports):
        _port(errors, f"{path}.ports[{i}]", port, needs_name=len(ports) > 1)


def _address(errors: Errors, path: str, address: Struct) -> None:
    value = address.get("ip", "")
    legacy_ip(errors, f"{path}.ip", value)
    if host := address.get("hostname"):
        errors.each(f"{path}.hostname", host, dns_label(host))
    if (node := address.get("nodeName")) is not None:
        errors.each(f"{path}.nodeName", node, dns_subdomain(node))
    endpoint_ip(errors, f"{path}.ip", value)


def _port(errors: Errors, path: str, port: Struct, *, needs_name: bool) -> None:
    name = port.get("name", "")
    if name:
        errors.each(f"{path}.name", name, dns_label(name))
    elif needs_name:
        errors.required(f"{path}.name")
    errors.within(f"{path}.port", port.get("port") or 0, 1, 65535)
    errors.enum(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    if (protocol := port.get("appProtocol")) is not None:
        errors.each(f"{path}.appProtocol", protocol, qualified_name(protocol))
