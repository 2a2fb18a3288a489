"""Byte streams both ways: what remains of a connection after an upgrade, a plain socket, and a pipe between two.

`WireDuplex` implements `types.Duplex` over a `Wire`; `connect` makes one to a TCP or unix address; `relay` couples
two of them, as a proxy does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

from tiphys.base import outside as host_network
from tiphys.base.http.types import Duplex
from tiphys.base.http.wire import Wire

BUFFER = 262144
"""Bytes read ahead of the reader; beyond it the peer is slowed down."""


class WireDuplex:
    """The Duplex of a Wire. Whoever owns the Wire forwards its events to `received`, `ended` and `lost`."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop, rest: bytes = b"") -> None:
        self._wire = wire
        self._loop = loop
        self._chunks: deque[bytes] = deque([rest] if rest else [])
        self._size = len(rest)
        self._ended = wire.closed
        self._waiter: asyncio.Future[None] | None = None

    @property
    def half_closes(self) -> bool:
        """Whether `write_eof` reaches the peer."""
        return not self._wire.tls

    def connected(self) -> None:
        """Nothing to do: part of `wire.Receiver`."""

    def received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > BUFFER:
            self._wire.pause_reading()
        self._wake()

    def ended(self) -> None:
        self._ended = True
        self._wake()

    def lost(self, error: OSError | None) -> None:
        self.ended()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self, limit: int = 65536) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter
        chunk = self._chunks.popleft()
        if len(chunk) > limit:
            self._chunks.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        self._size -= len(chunk)
        if self._size <= BUFFER // 2:
            self._wire.resume_reading()
        return chunk

    async def write(self, data: bytes) -> None:
        if self._wire.closing:
            raise ConnectionResetError("the connection is closed")
        self._wire.write(data)
        await self._wire.drain()

    async def write_eof(self) -> None:
        self._wire.write_eof()

    async def close(self) -> None:
        """What was written still arrives, whatever the peer is sending meanwhile."""
        self._wire.close(linger=True)
        self.ended()


class _Dialer:
    """Receiver of a connection being made: waits for the handshake, then hands over to the real receiver."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()

    def connected(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def received(self, data: bytes) -> None:
        raise AssertionError("reading was paused")

    def ended(self) -> None:
        self.lost(None)

    def lost(self, error: OSError | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError("the peer closed the connection"))


Opened = Callable[[str, int], Awaitable[socket.socket]]
"""Makes a connection to a host and port, not blocking. Raises OSError."""


async def dial(
    host: str,
    port: int,
    *,
    path: str = "",
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    outside: bool = False,
    opened: Opened | None = None,
) -> Wire:
    """A connected Wire, TLS shaken hands, reading paused: give it its receiver by `adopt`. `outside`: by the host's
    network; `opened` makes the connection itself. Raises OSError."""
    loop = asyncio.get_running_loop()
    if opened is not None:
        sock = await opened(host, port)
    elif outside and host_network.agent():
        sock = await host_network.connection(host, port)
    else:
        sock = await _connected(loop, host, port, path)
    try:
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=server_name or host, do_handshake_on_connect=False)
        dialer = _Dialer(loop)
        wire = Wire(sock, dialer, loop)
    except BaseException:
        sock.close()
        raise
    wire.pause_reading()
    wire.start()
    try:
        await dialer.ready
    except BaseException:
        wire.abort()
        raise
    return wire


async def _connected(loop: asyncio.AbstractEventLoop, host: str, port: int, path: str) -> socket.socket:
    if path:
        return await _connect(loop, socket.AF_UNIX, path)
    error: OSError = ConnectionError(f"no address for {host}")
    for family, address in await _resolve(loop, host, port):
        try:
            return await _connect(loop, family, address)
        except OSError as refused:
            error = refused
    raise error


async def _resolve(
    loop: asyncio.AbstractEventLoop, host: str, port: int
) -> list[tuple[int, tuple[str, int] | tuple[str, int, int, int]]]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, (host, port))]
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


async def _connect(loop: asyncio.AbstractEventLoop, family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(
    host: str = "", port: int = 0, *, path: str = "", tls: ssl.SSLContext | None = None, server_name: str = ""
) -> WireDuplex:
    """A byte stream to host:port, or to the unix socket `path`. Raises OSError."""
    wire = await dial(host, port, path=path, tls=tls, server_name=server_name)
    duplex = WireDuplex(wire, asyncio.get_running_loop())
    wire.adopt(duplex)
    return duplex


async def copy(source: Duplex, target: Duplex) -> None:
    """Everything from one to the other, then the half-close. A peer that is gone ends it quietly."""
    try:
        while data := await source.read():
            await target.write(data)
        if getattr(target, "half_closes", True):
            await target.write_eof()
        else:  # TLS: the end of one direction is the end
            await target.close()
    except OSError:
        await target.close()


async def relay(one: Duplex, other: Duplex) -> None:
    """Both ways, until both have ended; closes both."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(one, other))
            group.create_task(copy(other, one))
    finally:
        await one.close()
        await other.close()
