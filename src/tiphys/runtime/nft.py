"""Masquerading by raw nf_tables netlink: one table with one chain, nothing to install.

Packets from the cluster's own addresses to any other leave with the host's address. The message layout is that of
linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from tiphys.base.netlink import Attribute, attributes

_NETFILTER = 12
_NESTED = 0x8000
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = (_SUBSYSTEM | kind for kind in (0, 2, 3, 6))
_REQUEST, _ACK, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_INET, _IPV4, _IPV6 = 1, 2, 10
_FAMILIES = {4: _IPV4, 6: _IPV6}
_POSTROUTING, _SOURCE_NAT_PRIORITY = 4, 100
_SOURCE, _DESTINATION = {4: 12, 6: 8}, {4: 16, 6: 24}
"""Where the addresses are in the IP header."""
_NOT_HERE = frozenset({errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""What a kernel without tables of a family answers."""


Network = IPv4Network | IPv6Network


def _text(kind: int, value: str) -> Attribute:
    return kind, value.encode() + b"\0"


def _number(kind: int, value: int) -> Attribute:
    return kind, struct.pack(">i", value)


def _nest(kind: int, pairs: list[Attribute]) -> Attribute:
    return kind | _NESTED, attributes(pairs)


def _expression(name: str, data: list[Attribute]) -> Attribute:
    return _nest(1, [_text(1, name), _nest(2, data)])


def _compare(offsets: dict[int, int], network: Network, *, equal: bool) -> list[Attribute]:
    """Load an address of the IP header, mask it, compare it."""
    mask, size = network.netmask.packed, network.max_prefixlen // 8
    masked = [_number(1, 1), _number(2, 1), _number(3, size), _nest(4, [(1, mask)]), _nest(5, [(1, bytes(size))])]
    return [
        _expression("payload", [_number(1, 1), _number(2, 1), _number(3, offsets[network.version]), _number(4, size)]),
        _expression("bitwise", masked),
        _expression(
            "cmp", [_number(1, 1), _number(2, 0 if equal else 1), _nest(3, [(1, network.network_address.packed)])]
        ),
    ]


class _Batch:
    """A transaction: all of its messages take effect, or none."""

    def __init__(self) -> None:
        self._data = b""
        self._count = 0
        self._add(_BATCH_BEGIN, 0, struct.pack(">BBH", 0, 0, 10))

    def _add(self, kind: int, flags: int, body: bytes) -> None:
        self._data += struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, self._count, 0) + body
        self._count += 1

    def add(self, family: int, kind: int, flags: int, pairs: list[Attribute]) -> None:
        self._add(kind, flags | _ACK, struct.pack(">BBH", family, 0, 0) + attributes(pairs))

    def commit(self) -> None:
        """Send it. Raises OSError with the first message's error."""
        expected = self._count - 1
        self._add(_BATCH_END, 0, struct.pack(">BBH", 0, 0, 10))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER) as link:
            link.bind((0, 0))
            link.send(self._data)
            while expected > 0:
                expected -= _acknowledged(link.recv(65536))


def _acknowledged(data: bytes) -> int:
    offset, count = 0, 0
    while offset + 20 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        code = -struct.unpack_from("=i", data, offset + 16)[0]
        if kind == 2 and code:
            raise OSError(code, f"nftables: {os.strerror(code)}")
        count += 1
        offset += (length + 3) & ~3
    return count


def masquerade(table: str, networks: Sequence[str]) -> None:
    """Masquerade what goes from `networks` elsewhere, replacing earlier tables of the name (one for each IP version).
    Raises OSError."""
    batch = _Batch()
    wanted = [ip_network(network) for network in networks]
    for version, family in _FAMILIES.items():
        if inside := [network for network in wanted if network.version == version]:
            _masquerade(batch, family, table, inside)
    batch.commit()


def _masquerade(batch: _Batch, family: int, table: str, inside: Sequence[Network]) -> None:
    name = _text(1, table)
    # Deleting fails where there is nothing: make it first, so that making and replacing are one transaction.
    batch.add(family, _NEW_TABLE, _CREATE, [name])
    batch.add(family, _DELETE_TABLE, 0, [name])
    batch.add(family, _NEW_TABLE, _CREATE, [name])
    hook = _nest(4, [_number(1, _POSTROUTING), _number(2, _SOURCE_NAT_PRIORITY)])
    batch.add(family, _NEW_CHAIN, _CREATE, [name, _text(3, "postrouting"), hook, _text(7, "nat")])
    for network in inside:
        tests = _compare(_SOURCE, network, equal=True)
        for other in inside:
            tests += _compare(_DESTINATION, other, equal=False)
        expressions = _nest(4, [*tests, _expression("masq", [])])
        batch.add(family, _NEW_RULE, _CREATE | _APPEND, [name, _text(2, "postrouting"), expressions])


def delete_tables(table: str) -> None:
    """Delete the tables of the name, of each family, and all in them. Harmless if there are none. Raises OSError."""
    for family in (_IPV4, _IPV6, _INET):
        batch = _Batch()
        batch.add(family, _NEW_TABLE, _CREATE, [_text(1, table)])
        batch.add(family, _DELETE_TABLE, 0, [_text(1, table)])
        try:
            batch.commit()
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
