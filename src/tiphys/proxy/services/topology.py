"""Which endpoints of a port this place uses: by readiness, traffic policies and topology hints.

Behaviour: the Service API (traffic policies), KEP-1669 (terminating endpoints), KEP-2433, KEP-3015, KEP-4444 (hints).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from tiphys.proxy.services.facts import Endpoint, ServicePort

Endpoints = tuple[Endpoint, ...]


@functools.lru_cache(64)
def _network(cidr: str) -> IPv4Network | IPv6Network:
    return ip_network(cidr, strict=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the proxy is: a node and its zone; the host has neither, its own are the endpoints in the ranges `near`."""

    node: str = ""
    zone: str = ""
    near: tuple[str, ...] = ()

    def has(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint is local here."""
        if self.node:
            return endpoint.node == self.node
        address = ip_address(endpoint.address)
        return any(address in _network(near) for near in self.near)


@dataclass(frozen=True, slots=True)
class Usable:
    """`cluster` for policy Cluster, `local` for policy Local; `anywhere` says whether any node could serve."""

    cluster: Endpoints = ()
    local: Endpoints = ()
    anywhere: bool = False

    @property
    def reachable(self) -> Endpoints:
        """All that this place may send to, each once."""
        return tuple(dict.fromkeys((*self.cluster, *self.local)))


def usable(port: ServicePort, endpoints: Endpoints, place: Place) -> Usable:
    """What is ready, else what serves while it terminates; decided apart for the two policies."""
    ready = tuple(each for each in endpoints if each.ready)
    going = tuple(each for each in endpoints if not each.ready and each.going)
    cluster = local = ()  # type: Endpoints
    if port.uses_cluster_endpoints:
        cluster = tuple(filter(preference(ready, place), ready)) or going
    if port.uses_local_endpoints:
        local = tuple(filter(place.has, ready)) or tuple(filter(place.has, going))
    return Usable(cluster, local, bool(ready or going))


def preference(ready: Sequence[Endpoint], place: Place) -> Callable[[Endpoint], bool]:
    """Which of the ready endpoints the hints mean for this place; all, unless each has a hint and one is for here."""
    if all(each.for_nodes for each in ready) and any(place.node in each.for_nodes for each in ready):
        return lambda each: place.node in each.for_nodes
    if all(each.for_zones for each in ready) and any(place.zone in each.for_zones for each in ready):
        return lambda each: place.zone in each.for_zones
    return lambda each: True
