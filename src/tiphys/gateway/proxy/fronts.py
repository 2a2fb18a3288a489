"""Listening sockets of the proxy, each with the routes of its port."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiphys.base.http.wire import Wire
from tiphys.gateway.model import Listener
from tiphys.gateway.proxy.clientside import ClientSide

if TYPE_CHECKING:
    from tiphys.gateway.proxy.server import Proxy

log = logging.getLogger(__name__)

BACKLOG = 4096
ACCEPTS = 64
"""Connections accepted in one turn of the loop."""
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Front:
    """One port that clients see. `tables` may be replaced at any time: the next request finds the new ones."""

    def __init__(self, proxy: Proxy, port: int, tls: ssl.SSLContext | None) -> None:
        self._proxy = proxy
        self.port = port
        """The one that clients know."""
        self.context = tls
        self.tables: Sequence[Sequence[Listener]] = ()
        self._listeners: list[socket.socket] = []

    @property
    def tls(self) -> bool:
        return self.context is not None

    @property
    def bound(self) -> int:
        """The port that is listened on; 0 when none is."""
        return int(self._listeners[0].getsockname()[1]) if self._listeners else 0

    def listen(self, addresses: Sequence[str], preferred: int = 0) -> None:
        """On the same port of each address, the preferred one if it is free. Raises OSError."""
        for port in (preferred, 0, 0, 0):
            try:
                for address in addresses:
                    self._listeners.append(_listening(address, self.bound or port))
            except OSError as error:
                self.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                break
        else:
            raise OSError(errno.EADDRINUSE, f"no free port on {', '.join(addresses)}")
        for listener in self._listeners:
            self._proxy.loop.add_reader(listener.fileno(), self._accept, listener)

    def close(self) -> None:
        """Accept no more; connections that are there go on."""
        for listener in self._listeners:
            self._proxy.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                log.warning("cannot accept connections: %s", error)
                self._proxy.loop.remove_reader(listener.fileno())
                self._proxy.loop.call_later(1.0, self._accept_again, listener)
                return
            self._adopt(sock)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._proxy.loop.add_reader(listener.fileno(), self._accept, listener)

    def _adopt(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):  # gone already
            with contextlib.suppress(OSError):
                sock.close()
            return
        client = ClientSide(self._proxy, self)
        client.wire = Wire(sock, client, self._proxy.loop)
        self._proxy.adopt(client)
        client.wire.start()


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
