"""Hears of deleted nftables tables: somebody flushes the ruleset, and whoever needs a table puts it back.

Messages are those of linux/netfilter/nf_tables.h, told to the multicast group NFNLGRP_NFTABLES of the network namespace
in which the socket was made. Changes inside tables are heard, too, and passed over.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator

_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP = 270, 1, 7
_DELETE_TABLE = 10 << 8 | 2
_NAME = 1

Enter = Callable[[Callable[[], socket.socket]], socket.socket]


class TableWatch:
    """A socket that is readable when something changed; read it without blocking by `deleted`. Raises OSError."""

    def __init__(self, enter: Enter | None = None) -> None:
        self._socket = enter(_listening) if enter else _listening()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def deleted(self) -> set[str] | None:
        """The names of tables of any family that were deleted since the last time; None if that is not known."""
        names: set[str] = set()
        missed = False
        while True:
            try:
                names |= set(_deleted_in(self._socket.recv(1 << 16)))
            except BlockingIOError:
                return None if missed else names
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                missed = True


def _listening() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETFILTER)
    try:
        opened.bind((0, 0))
        opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
    except OSError:
        opened.close()
        raise
    return opened


def _deleted_in(data: bytes) -> Iterator[str]:
    offset = 0
    while offset + 20 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if kind == _DELETE_TABLE:
            yield _name(data[offset + 20 : offset + length])
        offset += max(16, (length + 3) & ~3)


def _name(attributes: bytes) -> str:
    """The table's name among the attributes; "" without one."""
    offset = 0
    while offset + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, offset)
        if kind & 0x3FFF == _NAME:
            return attributes[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(4, (length + 3) & ~3)
    return ""
