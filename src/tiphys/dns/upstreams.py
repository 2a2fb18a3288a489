"""Which servers are asked for names outside the cluster, in which order. Pure: time is handed in.

The order is that of resolv.conf(5). A server that does not answer is asked last for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

PORT = 53
BENCH = 10.0
"""Seconds for which a server that did not answer is asked after the others."""
MAX_SERVERS = 15


class Server(NamedTuple):
    """Where a name server listens. An IPv6 link-local address may have a zone, as in fe80::1%eth0."""

    address: str
    port: int = PORT

    @property
    def is_v6(self) -> bool:
        return ":" in self.address

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.is_v6 else f"{self.address}:{self.port}"


def parse_server(text: str) -> Server:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. Raises ValueError."""
    address, port = text, str(PORT)
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [ADDRESS]:PORT")
        port = rest[1:] or port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: {port!r} is no port")
    ip_address(address)
    return Server(address, int(port))


def servers_of(resolv_conf: str) -> tuple[Server, ...]:
    """The name servers of a resolv.conf; lines that make no sense are left out."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(parse_server(f"[{words[1]}]" if ":" in words[1] else words[1]))
            except ValueError:
                continue
    return tuple(dict.fromkeys(found))[:MAX_SERVERS]


class Upstreams:
    """The servers, and what experience there is with them."""

    def __init__(self, servers: Iterable[Server] = ()) -> None:
        self.servers: tuple[Server, ...] = tuple(servers)
        self._benched: dict[Server, float] = {}
        self._loops: set[Server] = set()

    def replace(self, servers: Iterable[Server]) -> bool:
        """Take others; whether they are others. What was known of the old ones is forgotten."""
        new = tuple(servers)
        if new == self.servers:
            return False
        self.servers = new
        self._benched.clear()
        self._loops.clear()
        return True

    def order(self, now: float) -> list[Server]:
        """Whom to ask, one after the other."""
        usable = [server for server in self.servers if server not in self._loops]
        return sorted(usable, key=lambda server: self._benched.get(server, 0.0) > now)

    def failed(self, server: Server, now: float) -> None:
        """It did not answer."""
        self._benched[server] = now + BENCH

    def answered(self, server: Server) -> None:
        self._benched.pop(server, None)

    def leads_back(self, server: Server) -> bool:
        """Never ask it again: its questions come back to us. Whether that is news."""
        news = server in self.servers and server not in self._loops
        self._loops.add(server)
        return news


def is_ours(server: Server, own: Sequence[tuple[bytes, int]]) -> bool:
    """Whether it is one of the addresses (packed) and ports at which we listen."""
    address = ip_address(server.address.partition("%")[0])
    packed = address.ipv4_mapped.packed if isinstance(address, IPv6Address) and address.ipv4_mapped else address.packed
    return (packed, server.port) in own
