"""Connection tracking entries by ctnetlink: listed and deleted (linux/netfilter/nfnetlink_conntrack.h).

A `Conntrack` speaks for the network namespace in which its socket was made. An end of a flow is bytes, the packed
address and the port (`end`), so that whole tables are compared without making a string or an object of an address.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

from tiphys.base.netlink import attributes

NETFILTER = 12
_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_ADDRESSES, _TUPLE_PROTOCOL = 1, 2
_ADDRESSES: dict[int, tuple[int, int]] = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIGINAL, _FILTER_REPLY, _BY_PROTOCOL = 1, 2, 1 << 3
_BUFFER = 1 << 18
_DELETED_AT_ONCE = 64
"""Requests in one message: their acknowledgements fit in a socket's default buffer."""
_GONE = 2  # ENOENT


class Flow(NamedTuple):
    """An entry: what its first packet said, and who answers whom (after translation of addresses)."""

    protocol: int
    source: bytes
    destination: bytes
    answerer: bytes
    """Where answers come from: the endpoint, when the destination was translated."""
    answered: bytes
    """Where answers go: the source, or the address that hides it."""
    entry: bytes
    """All of its attributes, as the kernel wrote them."""


def end(address: str, port: int) -> bytes:
    """An end of a flow."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address) + struct.pack(">H", port)


def end_text(one: bytes) -> str:
    """address:port, for people."""
    port = struct.unpack(">H", one[-2:])[0]
    if len(one) == 6:
        return f"{socket.inet_ntop(socket.AF_INET, one[:4])}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, one[:16])}]:{port}"


def open_socket() -> socket.socket:
    """A netfilter socket of the calling thread's network namespace. Raises OSError."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)


class Conntrack:
    """One socket; not for several threads at once. Methods raise OSError."""

    def __init__(self, opened: Callable[[], socket.socket] = open_socket) -> None:
        self._socket = opened()
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def flows(self, family: int = socket.AF_INET, protocol: int = socket.IPPROTO_UDP) -> Iterator[Flow]:
        """The entries of an address family and a protocol that has ports, as they are read.

        Kernels before 5.8 send those of other protocols, too; they are left out here. Entries that come or go while
        the table is read may be missing. Read to the end: the next request waits for it otherwise.
        """
        wanted = [(_TUPLE_PROTOCOL | _NESTED, attributes([(_PROTOCOL_NUMBER, bytes((protocol,)))]))]
        by = [(_FILTER_ORIGINAL, struct.pack("=I", _BY_PROTOCOL)), (_FILTER_REPLY, struct.pack("=I", 0))]
        body = attributes([(_ORIGINAL | _NESTED, attributes(wanted)), (_FILTER | _NESTED, attributes(by))])
        self._socket.send(self._message(_GET, _DUMP, family, body))
        parse = _Parser(family, protocol).flow
        for payload in self._answers():
            if (flow := parse(payload)) is not None:
                yield flow

    def delete(self, flows: Sequence[Flow]) -> int:
        """Delete these entries; returns how many there still were."""
        deleted = 0
        for start in range(0, len(flows), _DELETED_AT_ONCE):
            some = flows[start : start + _DELETED_AT_ONCE]
            family = [socket.AF_INET if len(flow.source) == 6 else socket.AF_INET6 for flow in some]
            messages = [
                self._message(_DELETE, _ACK, each, _name(flow)) for each, flow in zip(family, some, strict=True)
            ]
            self._socket.send(b"".join(messages))
            deleted += self._acknowledged(len(some))
        return deleted

    def _message(self, kind: int, flags: int, family: int, body: bytes) -> bytes:
        self._sequence += 1
        header = struct.pack("=IHHII", 20 + len(body), kind, flags | _REQUEST, self._sequence, 0)
        return header + struct.pack(">BBH", family, 0, 0) + body

    def _answers(self) -> Iterator[memoryview]:
        """The attributes of each message of a dump."""
        while True:
            data = memoryview(self._socket.recv(_BUFFER))
            offset = 0
            while offset + 16 <= len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                if sequence == self._sequence:
                    if kind in (_ERROR, _DONE):
                        _raise(data[offset + 16 : offset + length], "list connections")
                        return
                    yield data[offset + 20 : offset + length]
                offset += (length + 3) & ~3

    def _acknowledged(self, expected: int) -> int:
        found, first = 0, self._sequence - expected
        while expected:
            data = memoryview(self._socket.recv(_BUFFER))
            offset = 0
            while offset + 16 <= len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                if kind == _ERROR and sequence > first:
                    expected -= 1
                    found += _raise(data[offset + 16 : offset + length], "delete a connection", _GONE)
                offset += (length + 3) & ~3
        return found


def _raise(payload: memoryview, step: str, harmless: int = 0) -> bool:
    """Raise the error that a message tells, unless it is harmless; returns whether it tells of none."""
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code > 0 and code != harmless:
        raise OSError(code, f"{step}: {os.strerror(code)}")
    return code <= 0


class _Parser:
    """Of entries of one family and protocol. The kernel writes both tuples first and in one layout, which is read at
    once; what looks otherwise (zones of one direction) is read by its attributes."""

    def __init__(self, family: int, protocol: int) -> None:
        self._family, self._protocol = family, protocol
        size = 4 if family == socket.AF_INET else 16
        # tuple { addresses { source, destination }, protocol { number + 3, source port + 2, destination port + 2 } }
        one = f"4s 4s 4x{size}s 4x{size}s 4s 4xB3x 4x2s2x 4x2s2x"
        self._fast = struct.Struct("=" + one + one)
        length = self._fast.size // 2
        addresses = struct.pack("=HH", 4 + 2 * (4 + size), _TUPLE_ADDRESSES | _NESTED)
        ports = struct.pack("=HH", 28, _TUPLE_PROTOCOL | _NESTED)
        heads = (struct.pack("=HH", length, kind | _NESTED) for kind in (_ORIGINAL, _REPLY))
        self._heads = (*heads, addresses, addresses, ports, ports)

    def flow(self, data: memoryview) -> Flow | None:
        """None for other protocols, and for what is no entry with ports."""
        if len(data) < self._fast.size:
            return None
        one = self._fast.unpack_from(data)
        head, addresses, source, destination, ports, protocol, source_port, destination_port = one[:8]
        other, other_addresses, answerer, answered, other_ports, _, answerer_port, answered_port = one[8:]
        if (head, other, addresses, other_addresses, ports, other_ports) != self._heads:
            return self._by_attributes(data)
        if protocol != self._protocol:
            return None
        there = (source + source_port, destination + destination_port)
        return Flow(protocol, *there, answerer + answerer_port, answered + answered_port, bytes(data))

    def _by_attributes(self, data: memoryview) -> Flow | None:
        found = dict(_attributes(data))
        original, reply = (self._tuple(found.get(kind, b"")) for kind in (_ORIGINAL, _REPLY))
        if original is None or reply is None:
            return None
        return Flow(self._protocol, *original, *reply, bytes(data))

    def _tuple(self, data: memoryview | bytes) -> tuple[bytes, bytes] | None:
        parts = dict(_attributes(memoryview(data)))
        addresses = dict(_attributes(parts.get(_TUPLE_ADDRESSES, memoryview(b""))))
        protocol = dict(_attributes(parts.get(_TUPLE_PROTOCOL, memoryview(b""))))
        source, destination = _ADDRESSES[self._family]
        needed = (addresses.get(source), addresses.get(destination))
        ports = (protocol.get(_SOURCE_PORT), protocol.get(_DESTINATION_PORT))
        number = protocol.get(_PROTOCOL_NUMBER)
        if number is None or number[0] != self._protocol or None in (*needed, *ports):
            return None
        first, second = (bytes(a or b"") + bytes(p or b"") for a, p in zip(needed, ports, strict=True))
        return first, second


def _name(flow: Flow) -> bytes:
    """The attributes that name an entry to the kernel: its original tuple, its zone and its number."""
    named = [
        (kind, bytes(value)) for kind, value in _attributes(memoryview(flow.entry)) if kind in (_ORIGINAL, _ZONE, _ID)
    ]
    return attributes([(kind | _NESTED if kind == _ORIGINAL else kind, value) for kind, value in named])


def _attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
