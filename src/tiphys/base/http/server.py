"""The HTTP server: HTTP/1.1 over TCP (plain or TLS) or a unix socket, for one `Handler`.

    async with serve(handler, "127.0.0.1", 0, tls=context) as server:
        ...                      # server.port
                                 # leaving drains: running requests may finish, streams and upgrades end

Keep-alive and pipelining, chunked requests and responses, Expect: 100-continue, upgrades, optional client
certificates (`Request.peer.certificate`), limits on sizes and on the time that a client may take. HTTP/2 is left
out: its clients fall back to 1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from tiphys.base.clock import Clock, SystemClock
from tiphys.base.http.connection import ServerConnection
from tiphys.base.http.types import Handler
from tiphys.base.http.wire import Wire
from tiphys.base.listening import BACKLOG, listeners

__all__ = ["BACKLOG", "MAX_BODY", "Server", "serve", "serve_on", "serve_unix"]

_log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
"""Bytes; upstream's limit on a request."""
TICK = 5.0
"""Seconds between looks at the clients' deadlines. None are taken while there is no connection."""
MAX_UNSENT = 256 << 20
"""Bytes of answers that wait for clients, of all connections together. Beyond it whoever has owed for the longest
time is cut: a client that asks for long lists and reads none of them must not fill the memory."""
ACCEPTS = 64
"""Connections accepted in one turn of the loop."""
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """A listening socket and its connections. Made by `serve` and `serve_unix`."""

    def __init__(
        self,
        handler: Handler,
        listener: socket.socket,
        group: asyncio.TaskGroup,
        *,
        tls: ssl.SSLContext | None,
        max_body: int,
        clock: Clock,
        grace: float,
    ) -> None:
        self._handler = handler
        self._listener = listener
        self._group = group
        self._tls = tls
        self._max_body = max_body
        self._clock = clock
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._connections: dict[asyncio.Task[None], ServerConnection] = {}
        self._occupied = asyncio.Event()
        self._owing: dict[ServerConnection, None] = {}
        """Those of whose answers much had to wait, the latest last."""
        self._closing = False
        name = listener.getsockname()
        self.port: int = name[1] if isinstance(name, tuple) else 0
        """The TCP port that it listens on; 0 for a unix socket."""

    @property
    def connections(self) -> int:
        return len(self._connections)

    def start(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._sweeper = self._group.create_task(self._sweep(), name="http deadlines")

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                _log.error("cannot accept connections: %s", error)
                self._loop.remove_reader(self._listener.fileno())
                self._group.create_task(self._accept_later())
                return
            self._adopt(sock)

    async def _accept_later(self) -> None:
        await self._clock.sleep(1)
        if not self._closing:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _adopt(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):  # gone already
            sock.close()
            return
        connection = ServerConnection(self._handler, self._max_body, self._loop)
        connection.backed_up = self._backed_up
        wire = Wire(sock, connection, self._loop)
        task = connection.bind(wire, self._group)
        self._connections[task] = connection
        task.add_done_callback(self._forget)
        self._occupied.set()
        wire.start()

    def _forget(self, task: asyncio.Task[None]) -> None:
        connection = self._connections.pop(task, None)
        if connection is not None:
            self._owing.pop(connection, None)
            connection.forget()
        if not self._connections:
            self._occupied.clear()

    def _backed_up(self, connection: ServerConnection) -> None:
        self._owing.pop(connection, None)
        self._owing[connection] = None
        self._loop.call_soon(self._relieve)  # when what can leave at once has left

    def _relieve(self) -> None:
        """Cut those that have owed for the longest time until what waits for clients is bearable."""
        self._owing = {connection: None for connection in self._owing if connection.unsent}
        unsent = sum(connection.unsent for connection in self._owing)
        for connection in tuple(self._owing)[:-1]:  # one answer may be as large as it is
            if unsent <= MAX_UNSENT:
                return
            _log.warning("a client is cut that does not read the %d bytes it asked for", connection.unsent)
            unsent -= connection.unsent
            connection.abort()

    async def _sweep(self) -> None:
        while True:
            await self._occupied.wait()
            await self._clock.sleep(TICK)
            for connection in tuple(self._connections.values()):
                try:
                    connection.tick(TICK)
                except Exception:  # noqa: BLE001 - one connection must not take all others with it
                    _log.exception("a connection failed and is closed")
                    connection.abort()

    async def close(self) -> None:
        """Stop listening and drain: what runs may finish within the grace period, then it is cancelled."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._sweeper.cancel()
        tasks = set(self._connections)
        for connection in tuple(self._connections.values()):
            connection.drain()
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=self._grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


@contextlib.asynccontextmanager
async def _serving(
    handler: Handler, listener: socket.socket, tls: ssl.SSLContext | None, max_body: int, clock: Clock, grace: float
) -> AsyncIterator[Server]:
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            server = Server(handler, listener, group, tls=tls, max_body=max_body, clock=clock, grace=grace)
            server.start()
            try:
                yield server
            except Exception as error:  # noqa: BLE001 - raised again below, without the group's wrapping
                failure = error
            finally:
                await server.close()
    finally:
        listener.close()
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def serve(
    handler: Handler,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    max_body: int = MAX_BODY,
    clock: Clock | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Server]:
    """Serve `handler` on host:port (0 picks one) while the context lasts; "0.0.0.0" and "::" are all addresses.

    `max_body` in bytes, `grace` in seconds: how long running requests may take at the end. Raises OSError when the
    address cannot be had.
    """
    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                serve_on(handler, listener, tls=tls, max_body=max_body, clock=clock, grace=grace)
            )
            for listener in listeners(host, port)
        ]
        yield servers[0]


@contextlib.asynccontextmanager
async def serve_on(
    handler: Handler,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    max_body: int = MAX_BODY,
    clock: Clock | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Server]:
    """`serve` on a listening socket that somebody else made (in another network namespace, say); it is closed at
    the end."""
    listener.setblocking(False)
    async with _serving(handler, listener, tls, max_body, clock or SystemClock(), grace) as server:
        yield server


@contextlib.asynccontextmanager
async def serve_unix(
    handler: Handler,
    path: str | Path,
    *,
    mode: int = 0o660,
    max_body: int = MAX_BODY,
    clock: Clock | None = None,
    grace: float = 5.0,
) -> AsyncIterator[Server]:
    """Serve `handler` on a unix socket at `path`; a socket left there by a dead process is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(str(path))
        os.chmod(path, mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    try:
        async with _serving(handler, listener, None, max_body, clock or SystemClock(), grace) as server:
            yield server
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
