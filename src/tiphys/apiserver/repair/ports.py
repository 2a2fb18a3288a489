"""Whether each node port has one Service and lies in the range. Pure.

Node ports are taken by the Services themselves (`services`): there is no list of them beside, hence none that could
miss a port or keep one for nobody (upstream's PortNotAllocated, and its leaks). What is left is told; one of two
Services of one port has to be made anew by people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.apiserver.repair.findings import Finding, Object

_ACTION = "PortAllocation"


def node_ports(service: Object) -> list[int]:
    """The node ports of a Service; one that serves several protocols once, one that it has twice as often."""
    spec: Mapping[str, Any] = service.get("spec") or {}
    found: list[int] = []
    protocols: dict[int, set[str]] = {}
    for port in spec.get("ports") or ():
        number, protocol = port.get("nodePort") or 0, port.get("protocol") or "TCP"
        if not number:
            continue
        seen = protocols.setdefault(number, set())
        if not seen or protocol in seen:
            found.append(number)
        seen.add(protocol)
    health = spec.get("healthCheckNodePort") or 0
    if health and (health not in protocols or "TCP" in protocols[health]):
        found.append(health)
    return found


class PortBook:
    """Who has which node port. The first holder, by namespace and name, is in the right."""

    def __init__(self, ports: range) -> None:
        self._range = ports
        self._ports: dict[str, list[int]] = {}
        self._holders: dict[int, set[str]] = {}

    def put(self, key: str, service: Object | None) -> set[str]:
        """The Service of that key is like this, or gone; returns the other Services that it shared or shares with."""
        before = self._ports.pop(key, [])
        after = node_ports(service) if service is not None else []
        others: set[str] = set()
        for port in before:
            holders = self._holders[port] = self._holders.get(port, set()) - {key}
            others |= holders
            if not holders:
                del self._holders[port]
        for port in after:
            others |= self._holders.setdefault(port, set())
            self._holders[port].add(key)
        if after:
            self._ports[key] = after
        return others - {key}

    def findings(self, key: str, service: Object) -> Iterator[Finding]:
        """What is wrong with the node ports of a Service that was `put`."""
        seen: set[int] = set()
        for port in self._ports.get(key, ()):
            if port not in self._range:
                valid = f"{self._range.start}-{self._range.stop - 1}"
                text = f"Port {port} is not within the port range {valid}; please recreate service"
                yield Finding(service, "outOfRange", "PortOutOfRange", _ACTION, text)
            elif port in seen or min(self._holders[port]) < key:
                text = f"Port {port} was assigned to multiple services; please recreate service"
                yield Finding(service, "duplicate", "PortAlreadyAllocated", _ACTION, text)
            seen.add(port)
