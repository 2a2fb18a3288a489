"""Listening TCP sockets for an address; the unspecified one stands for all addresses of both IP versions."""

from __future__ import annotations

import contextlib
import errno
import socket

BACKLOG = 1024
_ALL = ("0.0.0.0", "::")  # noqa: S104 - compared
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on `port` of the address `host` (0: any, the same of all). Raises OSError.

    "0.0.0.0" and "::" are all addresses, as servers in Go take them. There is a socket for each IP version, so that
    no peer shows as an IPv6 address with an IPv4 one in it; a machine without IPv6 has only one."""
    if host not in _ALL:
        return [_listen(host, port)]
    opened = [_listen(_ALL[0], port)]
    try:
        opened.append(_listen(_ALL[1], opened[0].getsockname()[1]))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            with contextlib.closing(opened[0]):
                raise
    return opened


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
