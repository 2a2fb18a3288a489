"""The overlay's part of the kernel by rtnetlink: the VXLAN device, its forwarding table, neighbours and routes.

Routes carry a mark of ours (protocol and metric), so that they are found again and nobody else's are touched.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator

from tiphys.base.netlink import Attribute, Netlink, attributes, parsed, split
from tiphys.overlay.plan import Difference, hardware_address
from tiphys.overlay.types import VXLAN, Entries, Forward, Neighbour, Route, Settings

PROTOCOL = 84
"""rtm_protocol of our routes: free in iproute2's rt_protos."""

_GETLINK, _NEWLINK, _NEWROUTE, _DELROUTE, _GETROUTE, _NEWNEIGH, _DELNEIGH, _GETNEIGH = 18, 16, 24, 25, 26, 28, 29, 30
_GETADDR, _IFA_ADDRESS, _IFA_LOCAL = 22, 1, 2
_CREATE, _REPLACE, _DUMP = 0x400, 0x100, 0x300
_IFNAME, _MTU, _LINKINFO, _ADDRESS = 3, 4, 18, 1
_INFO_DATA = 2
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_NDA_DST, _NDA_LLADDR = 1, 2
_BRIDGE_FAMILY, _PERMANENT, _SELF = 7, 0x80, 0x02
_MAIN_TABLE, _UNIVERSE, _UNICAST, _ONLINK = 254, 0, 1, 4
_MISSING = (errno.ESRCH, errno.ENOENT, errno.ENODEV)


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _packed(address: str) -> bytes:
    return split(address)[1]


class OverlayLink(Netlink):
    """Methods raise OSError that names the step."""

    def ensure_device(self, settings: Settings) -> int:
        """The VXLAN device as the settings say, switched on; its number. One that is otherwise is made anew."""
        name = settings.device
        if self.index(name) and self._as_wanted(settings) is False:
            self.delete_link(name)
        if not self.index(name):
            self._make(settings)
        index = self.index(name)
        if settings.mtu and self.mtu(name) != settings.mtu:
            body = _link_header(index) + attributes([(_MTU, struct.pack("=I", settings.mtu))])
            self.request(_NEWLINK, 0, body, f"size of packets of {name}")
        self.set_up(index)
        return index

    def _make(self, settings: Settings) -> None:
        local = _VXLAN_LOCAL if settings.version == 4 else _VXLAN_LOCAL6
        data = [
            (_VXLAN_ID, struct.pack("=I", settings.vni)),
            (local, _packed(settings.address)),
            (_VXLAN_LEARNING, b"\0"),
            (_VXLAN_PORT, struct.pack(">H", settings.port)),
        ]
        pairs: list[Attribute] = [(_IFNAME, settings.device.encode() + b"\0")]
        pairs.append((_ADDRESS, hardware_address(settings.address, settings.vni)))
        if settings.mtu:
            pairs.append((_MTU, struct.pack("=I", settings.mtu)))
        self._new_link("vxlan", pairs, attributes(data), f"make {settings.device}")

    def _as_wanted(self, settings: Settings) -> bool:
        body = _link_header(0) + attributes([(_IFNAME, settings.device.encode() + b"\0")])
        for _, payload in self.request(_GETLINK, 0, body, f"look at {settings.device}"):
            found = dict(parsed(payload[16:]))
            data = dict(parsed(dict(parsed(found.get(_LINKINFO, b""))).get(_INFO_DATA, b"")))
            local = data.get(_VXLAN_LOCAL if settings.version == 4 else _VXLAN_LOCAL6)
            return (
                data.get(_VXLAN_ID) == struct.pack("=I", settings.vni)
                and data.get(_VXLAN_PORT) == struct.pack(">H", settings.port)
                and local == _packed(settings.address)
                and found.get(_ADDRESS) == hardware_address(settings.address, settings.vni)
            )
        return False

    def mtu_of(self, address: str) -> int:
        """The packet size of the device that has the address; 0 if none has."""
        family, packed, _ = split(address)
        header = struct.pack("=BBBBI", family, 0, 0, 0, 0)
        names = {number: name for name, number in self.links().items()}
        for _, payload in self.request(_GETADDR, _DUMP, header, "list addresses"):
            found = dict(parsed(payload[8:]))
            device = names.get(struct.unpack_from("=I", payload, 4)[0], "")
            if packed in (found.get(_IFA_LOCAL), found.get(_IFA_ADDRESS)) and device:
                return self.mtu(device)
        return 0

    def entries(self, settings: Settings) -> Entries:
        """What there is of ours."""
        device = self.index(settings.device) if settings.mode == VXLAN else 0
        return Entries(
            frozenset(self._forwards(device)) if device else frozenset(),
            frozenset(self._neighbours(device)) if device else frozenset(),
            frozenset(self._routes(settings.vni)),
        )

    def apply(self, settings: Settings, change: Difference) -> list[str]:
        """Carry out the difference; what comes first is what others need. Returns what failed, and why."""
        device = self.index(settings.device) if settings.mode == VXLAN else 0
        steps: list[Callable[[], None]] = []
        for add, entries in ((True, change.added), (False, change.removed)):
            forwards = [self._forward_step(device, one, add) for one in entries.forwards]
            neighbours = [self._neighbour_step(device, one, add) for one in entries.neighbours]
            routes = [self._route_step(settings, device, one, add) for one in entries.routes]
            steps += [*forwards, *neighbours, *routes] if add else [*routes, *neighbours, *forwards]
        failed = []
        for step in steps:
            try:
                step()
            except OSError as error:
                if error.errno not in _MISSING:
                    failed.append(str(error.strerror))
        return failed

    def _forward_step(self, device: int, one: Forward, add: bool) -> Callable[[], None]:
        body = struct.pack("=BBHiHBB", _BRIDGE_FAMILY, 0, 0, device, _PERMANENT, _SELF, 0)
        body += attributes([(_NDA_LLADDR, one.mac), (_NDA_DST, _packed(one.machine))])
        return lambda: self._change(_NEWNEIGH, _DELNEIGH, body, add, f"machine {one.machine}")

    def _neighbour_step(self, device: int, one: Neighbour, add: bool) -> Callable[[], None]:
        family, packed, _ = split(one.address)
        body = struct.pack("=BBHiHBB", family, 0, 0, device, _PERMANENT, 0, 0)
        body += attributes([(_NDA_DST, packed), (_NDA_LLADDR, one.mac)])
        return lambda: self._change(_NEWNEIGH, _DELNEIGH, body, add, f"neighbour {one.address}")

    def _route_step(self, settings: Settings, device: int, one: Route, add: bool) -> Callable[[], None]:
        family, packed, length = split(one.subnet)
        pairs: list[Attribute] = [(_RTA_DST, packed), (_RTA_PRIORITY, struct.pack("=I", settings.vni))]
        flags = 0
        if add:
            pairs.append((_RTA_GATEWAY, _packed(one.gateway)))
            if one.source:
                pairs.append((_RTA_PREFSRC, _packed(one.source)))
            if device:
                pairs.append((_RTA_OIF, struct.pack("=I", device)))
                flags = _ONLINK
        header = struct.pack("=BBBBBBBBI", family, length, 0, 0, _MAIN_TABLE, PROTOCOL, _UNIVERSE, _UNICAST, flags)
        body = header + attributes(pairs)
        return lambda: self._change(_NEWROUTE, _DELROUTE, body, add, f"route to {one.subnet}")

    def _change(self, new: int, delete: int, body: bytes, add: bool, what: str) -> None:
        self.request(new if add else delete, _CREATE | _REPLACE if add else 0, body, what)

    def _forwards(self, device: int) -> Iterator[Forward]:
        for found in self._neighbour_entries(_BRIDGE_FAMILY, device):
            if _NDA_DST in found and _NDA_LLADDR in found:
                yield Forward(found[_NDA_LLADDR], _address(found[_NDA_DST]))

    def _neighbours(self, device: int) -> Iterator[Neighbour]:
        for family in (socket.AF_INET, socket.AF_INET6):
            for found in self._neighbour_entries(family, device):
                if _NDA_LLADDR in found:
                    yield Neighbour(_address(found[_NDA_DST]), found[_NDA_LLADDR])

    def _neighbour_entries(self, family: int, device: int) -> Iterator[dict[int, bytes]]:
        header = struct.pack("=BBHiHBB", family, 0, 0, 0, 0, 0, 0)
        for _, payload in self.request(_GETNEIGH, _DUMP, header, "list neighbours"):
            index, state = struct.unpack_from("=iH", payload, 4)
            if index == device and state & _PERMANENT:
                yield dict(parsed(payload[12:]))

    def _routes(self, metric: int) -> Iterator[Route]:
        for family in (socket.AF_INET, socket.AF_INET6):
            header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
            for _, payload in self.request(_GETROUTE, _DUMP, header, "list routes"):
                length, protocol = payload[1], payload[5]
                found = dict(parsed(payload[12:]))
                ours = protocol == PROTOCOL and found.get(_RTA_PRIORITY) == struct.pack("=I", metric)
                if ours and _RTA_DST in found and _RTA_GATEWAY in found:
                    source = _address(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else ""
                    yield Route(f"{_address(found[_RTA_DST])}/{length}", _address(found[_RTA_GATEWAY]), source)


def _link_header(index: int) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, 0, 0)
