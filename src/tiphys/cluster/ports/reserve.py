"""Holding ports of the host for a cluster: a bound socket, so that no other program takes them meanwhile.

Where the kernel translates, nothing ever arrives at the socket; where it cannot, the socket becomes the forwarder's.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise
from pathlib import Path

from tiphys.base import outside
from tiphys.cluster.ports.published import PublishedPort

Sockets = list[socket.socket]
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
BACKLOG = 128


def reserve(port: PublishedPort, inside: Sequence[IPv4Network | IPv6Network]) -> Sockets:
    """Sockets that hold the port, TCP not yet listening; `inside` are the cluster's own addresses. Raises OSError.

    Somebody who has the port at one of the host's addresses hinders that it is had at all of them; what the cluster
    itself listens on does not."""
    if outside.agent():
        return [outside.listener(port.address, port.port, KINDS[port.protocol])]
    try:
        return [_bound(port, port.address)]
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not port.everywhere:
            raise
    return _each([address for address in host_addresses(port.version) if not _among(address, inside)], port)


def refusal(port: PublishedPort, error: OSError) -> str:
    """Why the port cannot be had, for people."""
    reasons = {
        errno.EADDRINUSE: "it is in use by another program",
        errno.EADDRNOTAVAIL: f"{port.address} is no address of this machine",
        errno.EACCES: "ports below net.ipv4.ip_unprivileged_port_start are root's",
    }
    return f"port {port.place}/{port.protocol} cannot be published: {reasons.get(error.errno or 0, error.strerror)}"


def host_addresses(version: int) -> list[str]:
    """The addresses of this network (proc_net(5)), loopback included."""
    if version == 4:
        return sorted(set(_local(Path("/proc/net/fib_trie").read_text().splitlines())))
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [IPv6Address(bytes.fromhex(line.split()[0])) for line in lines]
    return [str(address) for address in found if not address.is_link_local]


def _local(lines: list[str]) -> Iterator[str]:
    for line, after in pairwise(lines):
        if "|--" in line and "/32 host LOCAL" in after:
            yield line.split()[-1]


def _among(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    one = IPv6Address(address) if ":" in address else IPv4Address(address)
    return any(one in network for network in networks)


def _each(addresses: list[str], port: PublishedPort) -> Sockets:
    sockets: Sockets = []
    try:
        for address in addresses:
            sockets.append(_bound(port, address))
    except OSError:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _bound(port: PublishedPort, address: str) -> socket.socket:
    """Not to be shared, unlike a server's. After a forwarder has used the port there may be connections that are not
    forgotten yet: only a listening socket is let in beside those, and lets nobody else in."""
    try:
        return _opened(port, address, shared=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or port.protocol != "tcp":
            raise
    opened = _opened(port, address, shared=True)
    try:
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _opened(port: PublishedPort, address: str, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, KINDS[port.protocol] | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port.port))
    except OSError as error:
        opened.close()
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error
    return opened
