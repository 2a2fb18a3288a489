"""Which tracked flows of UDP Services lead nowhere any more. Pure.

The kernel translates the addresses of a flow once, for its first packet. A TCP client whose endpoint has gone gets a
reset and connects again; a UDP client that goes on sending from the same port (a DNS resolver, a syslog sender) keeps
its entry alive for ever, and its packets get lost. So what leads to no endpoint that serves is removed, and the next
packet is translated anew.

Traffic policies, topology and termination are left out of it: what changes there is for new flows, as with TCP. A
port without endpoints removes nothing: there is nowhere to lead its flows to.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tiphys.base.conntrack import Flow, end


@dataclass(frozen=True, slots=True)
class UdpPort:
    """A UDP port of a Service, in one address family."""

    addresses: tuple[str, ...]
    """Its cluster IP, external IPs and load balancer addresses."""
    port: int
    node_port: int
    """0 for none."""
    endpoints: frozenset[tuple[str, int]]
    """(address, port) of all that serve, on all nodes, also those that terminate."""


class Frontends:
    """Where flows to Services may lead."""

    def __init__(self, ports: Iterable[UdpPort], node_addresses: Collection[str] | None = None) -> None:
        """`node_addresses` are those on which node ports answer; None for any."""
        self._services: dict[bytes, frozenset[bytes]] = {}
        self._node_ports: dict[bytes, frozenset[bytes]] = {}
        self._nodes = None if node_addresses is None else {end(one, 0)[:-2] for one in node_addresses}
        for port in ports:
            self._add(port)

    def __bool__(self) -> bool:
        return bool(self._services or self._node_ports)

    def _add(self, port: UdpPort) -> None:
        if not port.endpoints:
            return
        endpoints = frozenset(end(address, number) for address, number in port.endpoints)
        for address in port.addresses:
            self._services[end(address, port.port)] = endpoints
        if port.node_port:
            self._node_ports[struct.pack(">H", port.node_port)] = endpoints

    def stale(self, flows: Iterable[Flow]) -> Sequence[Flow]:
        """Those of `flows`, which are UDP, that are to be removed."""
        services = self._services
        found = []
        for flow in flows:
            endpoints = services.get(flow.destination) or self._of_node_port(flow.destination)
            if endpoints is not None and flow.answerer not in endpoints:
                found.append(flow)
        return found

    def _of_node_port(self, destination: bytes) -> frozenset[bytes] | None:
        endpoints = self._node_ports.get(destination[-2:])
        return endpoints if self._nodes is None or destination[:-2] in self._nodes else None
