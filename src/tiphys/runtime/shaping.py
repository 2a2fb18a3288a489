"""Bandwidth of a link: token buckets on devices of the node, out of the sandbox's reach (tc(8), by rtnetlink).

What the sandbox receives leaves by the node's end of its link, which has a bucket. What it sends comes in there and is
led through an IFB device with another bucket first: the kernel shapes only what leaves a device.
"""

from __future__ import annotations

import socket
import struct

from tiphys.base.netlink import CREATE, EXCLUSIVE, REPLACE, Netlink, attributes
from tiphys.runtime.connectivity import Bandwidth

_NEW_QDISC, _NEW_FILTER = 36, 44
_ROOT, _INGRESS, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_KIND, _OPTIONS = 1, 2
_ETHERNET, _ALL_PROTOCOLS = 1, 0x0003
_PARAMETERS, _RATE64, _BURST = 1, 4, 6
_SELECTOR, _ACTIONS, _TERMINAL = 5, 7, 1
_MIRRED, _STOLEN, _REDIRECT = 2, 4, 1
_BURST_TIME, _LEAST_BURST = 0.01, 16 * 1024
_QUEUE_TIME, _LEAST_QUEUE = 0.05, 64 * 1024


def limit(link: Netlink, device: str, helper: str, bandwidth: Bandwidth) -> None:
    """Set up `device`, the node's end; `helper` is the name of the IFB device. Harmless if done already.

    A burst lasts 10 ms and the queue 50 ms at the rate, but for low ones. Raises OSError."""
    index = link.index(device)
    if bandwidth.ingress:
        _bucket(link, index, bandwidth.ingress)
    if bandwidth.egress:
        if not link.index(helper):
            link.add_ifb(helper)
        through = link.index(helper)
        _bucket(link, through, bandwidth.egress)
        _queue(link, index, "ingress", _INGRESS_HANDLE, _INGRESS, b"")
        _redirect(link, index, through)


def _bucket(link: Netlink, index: int, rate: int) -> None:
    """A token bucket as the device's queue; `rate` in bits per second."""
    each_second = max(rate // 8, 1)
    burst = max(int(each_second * _BURST_TIME), _LEAST_BURST)
    queue = max(int(each_second * _QUEUE_TIME), _LEAST_QUEUE) + burst
    clipped = min(each_second, 0xFFFFFFFF)
    rates = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, clipped) + bytes(12)
    parameters = rates + struct.pack("=III", min(queue, 0xFFFFFFFF), 0, 0)
    pairs = [(_PARAMETERS, parameters), (_BURST, struct.pack("=I", min(burst, 0x7FFFFFFF)))]
    if each_second > clipped:
        pairs.append((_RATE64, struct.pack("=Q", each_second)))
    _queue(link, index, "tbf", 0x10000, _ROOT, attributes(pairs))


def _queue(link: Netlink, index: int, kind: str, handle: int, parent: int, options: bytes) -> None:
    header = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, handle, parent, 0)
    body = header + attributes([(_KIND, kind.encode() + b"\0"), *([(_OPTIONS, options)] if options else [])])
    link.request(_NEW_QDISC, CREATE | REPLACE if options else CREATE, body, f"queue {kind} of device {index}")


def _redirect(link: Netlink, index: int, through: int) -> None:
    """All that comes in at `index` leaves by `through` before it is looked at."""
    action = struct.pack("=IIiiiiI", 0, 0, _STOLEN, 0, 0, _REDIRECT, through)
    mirred = attributes([(_KIND, b"mirred\0"), (_OPTIONS, attributes([(_MIRRED, action)]))])
    everything = struct.pack("=BBBxHHhhI", _TERMINAL, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
    options = attributes([(_SELECTOR, everything), (_ACTIONS, attributes([(1, mirred)]))])
    priority = 1 << 16 | socket.htons(_ALL_PROTOCOLS)
    header = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, 0x80000800, _INGRESS_HANDLE, priority)
    body = header + attributes([(_KIND, b"u32\0"), (_OPTIONS, options)])
    try:
        link.request(_NEW_FILTER, CREATE | EXCLUSIVE, body, f"filter of device {index}")
    except FileExistsError:
        return
