"""rtnetlink by hand: links, addresses, routes (rtnetlink(7), rtnetlink headers). Ten times as fast as a library.

A `Netlink` speaks for the network namespace in which its socket was made; see `netns.netlink_in` for others.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR = 16, 17, 18, 20, 21
_NEWROUTE, _DELROUTE, _GETROUTE, _NEWNEIGH = 24, 25, 26, 28
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3
IFF_UP = 1

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = (
    1, 3, 4, 10, 18, 20, 28
)  # fmt: skip
_IFLA_AF_SPEC, _INET_CONF, _SEND_REDIRECTS, _RP_FILTER, _ROUTE_LOCALNET = 26, 1, 6, 8, 26
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_ONLINK, _UNREACHABLE, _LAST_RESORT, _PERMANENT = 4, 7, 4096, 0x80

Attribute = tuple[int, bytes]


def attributes(pairs: list[Attribute]) -> bytes:
    """rtattrs, each padded to four bytes."""
    out = b""
    for kind, value in pairs:
        length = 4 + len(value)
        out += struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)
    return out


def parsed(data: bytes) -> Iterator[Attribute]:
    """The attributes in a message's payload, as far as they make sense; kinds without the flags of nesting."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def split(prefix: str) -> tuple[int, bytes, int]:
    """(family, packed address, prefix length) of e.g. 10.42.0.1/24."""
    address, _, length = prefix.partition("/")
    family = _family(address)
    return family, socket.inet_pton(family, address), int(length or (32 if family == socket.AF_INET else 128))


class Netlink:
    """A route socket. Methods raise OSError that names the step and the device or prefix."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes, step: str) -> list[tuple[int, bytes]]:
        """Send a message and return what answers it: (kind, payload) each. `step` is what it is about, for errors."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[tuple[int, bytes]] = []
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, answer, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                payload = data[offset + 16 : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if answer in (_ERROR, _DONE):
                    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                    if code > 0:
                        raise OSError(code, f"{step}: {os.strerror(code)}")
                    return answers
                answers.append((answer, payload))

    def _new_link(self, kind: str, pairs: list[Attribute], data: bytes, step: str, flags: int = 0) -> None:
        info = [(_INFO_KIND, kind.encode())] + ([(_INFO_DATA, data)] if data else [])
        body = _link(0, flags, flags) + attributes([*pairs, (_IFLA_LINKINFO, attributes(info))])
        self.request(_NEWLINK, CREATE | EXCLUSIVE, body, step)

    def add_bridge(self, name: str, mac: bytes | None = None) -> None:
        """Make a bridge."""
        pairs = [(_IFLA_IFNAME, _name(name))] + ([(_IFLA_ADDRESS, mac)] if mac else [])
        self._new_link("bridge", pairs, b"", f"make bridge {name}")

    def add_ifb(self, name: str) -> None:
        """Make an intermediate functional block device, switched on."""
        self._new_link("ifb", [(_IFLA_IFNAME, _name(name))], b"", f"make ifb {name}", IFF_UP)

    def add_veth(
        self, name: str, peer: str, namespace: int, mac: bytes | None = None, mtu: int = 0, own: bytes | None = None
    ) -> None:
        """Make a veth pair: `name` here, with the hardware address `own`, `peer` in the namespace of the open
        descriptor, with the address `mac`. `name` is switched on at once: each request waits for a lock of the whole
        kernel. `peer` cannot be, before it has its own peer."""
        size = [(_IFLA_MTU, struct.pack("=I", mtu))] if mtu else []
        address = [(_IFLA_ADDRESS, mac)] if mac else []
        there = [(_IFLA_IFNAME, _name(peer)), (_IFLA_NET_NS_FD, struct.pack("=i", namespace)), *size, *address]
        data = attributes([(_VETH_PEER, _link() + attributes(there))])
        pairs = [(_IFLA_IFNAME, _name(name)), *size, *([(_IFLA_ADDRESS, own)] if own else [])]
        self._new_link("veth", pairs, data, f"make veth {name}", IFF_UP)

    def check_sources(self, index: int, *, loopback: bool = False) -> None:
        """Drop IPv4 packets that come in by a device and whose answers would not leave by it (rp_filter, strict), and
        tell nobody behind it of a shorter way. `loopback`: 127.0.0.1 speaks to what is behind it (route_localnet)."""
        settings = {_RP_FILTER: 1, _SEND_REDIRECTS: 0, _ROUTE_LOCALNET: int(loopback)}
        values = [(kind, struct.pack("=I", value)) for kind, value in settings.items()]
        own = attributes([(socket.AF_INET, attributes([(_INET_CONF, attributes(values))]))])
        self.request(_NEWLINK, 0, _link(index) + attributes([(_IFLA_AF_SPEC, own)]), f"guard device {index}")

    def delete_link(self, name: str) -> None:
        """Delete a device. Raises OSError (ENODEV) when it is not there."""
        body = _link() + attributes([(_IFLA_IFNAME, _name(name))])
        self.request(_DELLINK, 0, body, f"delete {name}")

    def index(self, name: str) -> int:
        """A device's number; 0 when there is none."""
        body = _link() + attributes([(_IFLA_IFNAME, _name(name))])
        try:
            answers = self.request(_GETLINK, 0, body, f"find {name}")
        except OSError:
            return 0
        return int(struct.unpack_from("=i", answers[0][1], 4)[0])

    def links(self) -> dict[str, int]:
        """Every device's name and number."""
        out: dict[str, int] = {}
        for _, payload in self.request(_GETLINK, _DUMP, _link(), "list devices"):
            names = [value.rstrip(b"\0").decode() for kind, value in parsed(payload[16:]) if kind == _IFLA_IFNAME]
            out[names[0]] = struct.unpack_from("=i", payload, 4)[0]
        return out

    def mtu(self, name: str) -> int:
        """A device's maximum packet size in bytes; 0 when there is none."""
        body = _link() + attributes([(_IFLA_IFNAME, _name(name))])
        for _, payload in self.request(_GETLINK, 0, body, f"find {name}"):
            for kind, value in parsed(payload[16:]):
                if kind == _IFLA_MTU:
                    return int(struct.unpack("=I", value)[0])
        return 0

    def alias(self, name: str) -> str:
        """What a device is said to be for; "" if nothing is said or it is gone."""
        body = _link() + attributes([(_IFLA_IFNAME, _name(name))])
        try:
            found = self.request(_GETLINK, 0, body, f"look up {name}")
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return ""
        for _, payload in found:
            for kind, value in parsed(payload[16:]):
                if kind == _IFLA_IFALIAS:
                    return value.rstrip(b"\0").decode(errors="replace")
        return ""

    def set_alias(self, index: int, text: str) -> None:
        """Say what a device is for; 255 bytes are kept."""
        body = _link(index) + attributes([(_IFLA_IFALIAS, text.encode()[:255])])
        self.request(_NEWLINK, 0, body, f"name device {index}")

    def set_up(self, index: int, master: int = 0) -> None:
        """Switch a device on, as a port of the bridge `master` if given."""
        extra = [(_IFLA_MASTER, struct.pack("=I", master))] if master else []
        self.request(_NEWLINK, 0, _link(index, IFF_UP, IFF_UP) + attributes(extra), f"switch on device {index}")

    def add_address(self, index: int, prefix: str) -> None:
        """Give a device an address, e.g. 10.42.0.1/24. Harmless if it has it."""
        family, packed, length = split(prefix)
        # No duplicate address detection for IPv6 (IFA_F_NODAD): the addresses are ours, and usable at once.
        flags = 0x02 if family == socket.AF_INET6 else 0
        header = struct.pack("=BBBBI", family, length, flags, 0, index)
        body = header + attributes([(2, packed), (1, packed)])
        self.request(_NEWADDR, CREATE | REPLACE, body, f"add address {prefix}")

    def delete_address(self, index: int, prefix: str) -> None:
        """Take an address away. Raises OSError (EADDRNOTAVAIL) when the device does not have it."""
        family, packed, length = split(prefix)
        body = struct.pack("=BBBBI", family, length, 0, 0, index) + attributes([(2, packed), (1, packed)])
        self.request(_DELADDR, 0, body, f"delete address {prefix}")

    def add_route(self, prefix: str, gateway: str = "", index: int = 0, source: str = "") -> None:
        """Route `prefix` ("default" for all) through `gateway` and/or a device; with both, the gateway is taken to be
        behind the device, whatever addresses that has. `source`: which own address to use. Replaces an equal route."""
        self.request(_NEWROUTE, CREATE | REPLACE, _route(prefix, gateway, index, source), f"add route {prefix}")

    def refuse_route(self, prefix: str) -> None:
        """What no other route of `prefix` or a part of it takes is unreachable, at once."""
        family, packed, length = split(prefix)
        pairs = attributes([(1, packed), (6, struct.pack("=I", _LAST_RESORT))])
        body = struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, 4, 0, _UNREACHABLE, 0) + pairs
        self.request(_NEWROUTE, CREATE | REPLACE, body, f"refuse {prefix}")

    def add_neighbour(self, index: int, address: str, mac: bytes) -> None:
        """Who has `address` behind a device: for ever, nobody is asked."""
        family, packed, _ = split(address)
        body = struct.pack("=BBHiHBB", family, 0, 0, index, _PERMANENT, 0, 0) + attributes([(1, packed), (2, mac)])
        self.request(_NEWNEIGH, CREATE | REPLACE, body, f"add neighbour {address}")

    def delete_route(self, prefix: str) -> None:
        """Delete the route of `prefix`. Raises OSError (ESRCH) when there is none."""
        self.request(_DELROUTE, 0, _route(prefix, "", 0, ""), f"delete route {prefix}")

    def routes(self, family: int = socket.AF_INET) -> list[tuple[str, int]]:
        """(prefix, device number) of the main table's unicast routes; "default" for the default route."""
        header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
        out: list[tuple[str, int]] = []
        for _, payload in self.request(_GETROUTE, _DUMP, header, "list routes"):
            _, length, _, _, table, _, _, kind = struct.unpack_from("=BBBBBBBB", payload)
            found = dict(parsed(payload[12:]))
            if table != 254 or kind != 1:
                continue
            device = struct.unpack("=i", found[4])[0] if 4 in found else 0
            out.append((f"{socket.inet_ntop(family, found[1])}/{length}" if 1 in found else "default", device))
        return out


def _route(prefix: str, gateway: str, index: int, source: str) -> bytes:
    pairs: list[Attribute] = []
    if prefix == "default":
        family, length = _family(gateway), 0
    else:
        family, packed, length = split(prefix)
        pairs.append((1, packed))
    if gateway:
        pairs.append((5, socket.inet_pton(family, gateway)))
    if index:
        pairs.append((4, struct.pack("=I", index)))
    if source:
        pairs.append((7, socket.inet_pton(family, source)))
    scope = 0 if gateway else 253
    flags = _ONLINK if gateway and index else 0
    return struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, 4, scope, 1, flags) + attributes(pairs)
