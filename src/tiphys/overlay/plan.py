"""From machines to what the kernel must know of them, and the difference to what it knows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from tiphys.overlay.types import HOST_ROUTES, NONE, OVERHEAD, VXLAN, Entries, Forward, Neighbour, Peer, Route, Settings


def hardware_address(machine: str, vni: int) -> bytes:
    """That of a machine's VXLAN device: it follows from its address, so nobody has to tell it."""
    return b"\x02" + hashlib.sha256(f"{vni} {ip_address(machine)}".encode()).digest()[:5]


def inner_mtu(settings: Settings, outer: int) -> int:
    """Bytes of a pod's packet, when those between machines may have `outer`; 0 if that is unknown."""
    return outer - OVERHEAD[settings.version] if settings.mode == VXLAN and outer else outer


def wanted(settings: Settings, peers: Iterable[Peer]) -> Entries:
    """What is to be in the kernel so that the peers' subnets are reached."""
    if settings.mode == NONE:
        return Entries()
    forwards, neighbours, routes = set(), set(), set()
    sources = {ip_address(each).version: each for each in settings.sources}
    for peer in peers:
        mac = hardware_address(peer.address, settings.vni)
        gateways: dict[int, str] = {}
        for subnet in peer.subnets:
            source = sources.get(subnet.version, "")
            if settings.mode == HOST_ROUTES:
                if subnet.version == settings.version:
                    routes.add(Route(str(subnet), peer.address, source))
                continue
            gateway = gateways.setdefault(subnet.version, str(subnet.network_address))
            routes.add(Route(str(subnet), gateway, source))
        if settings.mode == VXLAN:
            forwards.add(Forward(mac, peer.address))
            neighbours |= {Neighbour(gateway, mac) for gateway in gateways.values()}
    return Entries(frozenset(forwards), frozenset(neighbours), frozenset(routes))


@dataclass(frozen=True, slots=True)
class Difference:
    """`added` before `removed`, but for what `added` replaces (it has the same key): that needs no removing."""

    added: Entries
    removed: Entries

    def __bool__(self) -> bool:
        return self.added != Entries() or self.removed != Entries()


def difference(actual: Entries, target: Entries) -> Difference:
    """How to get from one to the other."""
    macs = {one.mac for one in target.forwards}
    addresses = {one.address for one in target.neighbours}
    subnets = {one.subnet for one in target.routes}
    return Difference(
        Entries(
            target.forwards - actual.forwards,
            target.neighbours - actual.neighbours,
            target.routes - actual.routes,
        ),
        Entries(
            frozenset(one for one in actual.forwards if one.mac not in macs),
            frozenset(one for one in actual.neighbours if one.address not in addresses),
            frozenset(one for one in actual.routes if one.subnet not in subnets),
        ),
    )
