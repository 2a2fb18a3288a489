"""Which addresses are behind a port of a Service: pure, from the Service and its EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.client.types import Object
from tiphys.gateway.proxy.backends import Address


class NoBackend(Exception):
    """Why a Service's port cannot be a backend; `reason` is HTTPRoute's."""

    def __init__(self, message: str, reason: str = "BackendNotFound") -> None:
        super().__init__(message)
        self.reason = reason


def service_port(service: Object | None, port: str, name: str) -> Mapping[str, Any]:
    """The port of a Service, by its name or number. `name` of the Service is for messages. Raises NoBackend."""
    if service is None:
        raise NoBackend(f"service {name!r} does not exist")
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        # The proxy is in the host's network: a name would open what listens there on loopback addresses.
        raise NoBackend(f"service {name!r} is of type ExternalName, which is not supported", "UnsupportedValue")
    for each in spec.get("ports") or ():
        if port in (str(each.get("port")), each.get("name")) and each.get("protocol", "TCP") == "TCP":
            found: Mapping[str, Any] = each
            return found
    raise NoBackend(f"service {name!r} has no TCP port {port!r}")


def addresses(port: Mapping[str, Any], slices: Iterable[Object]) -> tuple[Address, ...]:
    """Ready endpoints, else those that serve while they end (as kube-proxy does), of one family, sorted."""
    name = port.get("name") or ""
    ready: dict[str, set[Address]] = {}
    ending: dict[str, set[Address]] = {}
    for each in slices:
        family = each.get("addressType", "")
        numbers = [
            one["port"]
            for one in each.get("ports") or ()
            if (one.get("name") or "") == name and one.get("port") and one.get("protocol", "TCP") == "TCP"
        ]
        for endpoint in each.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            found = {(str(endpoint["addresses"][0]), int(number)) for number in numbers}
            if conditions.get("ready") is not False:
                ready.setdefault(family, set()).update(found)
            elif conditions.get("serving"):
                ending.setdefault(family, set()).update(found)
    for families in (ready, ending):
        for family in ("IPv4", "IPv6"):
            if families.get(family):
                return tuple(sorted(families[family]))
    return ()
