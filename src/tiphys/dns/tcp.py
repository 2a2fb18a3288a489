"""DNS by TCP (RFC 7766): many questions on a connection, answered as soon as each can be, in any order.

Anybody in the cluster may connect. So connections are few, those of one address fewer, one that says nothing ends, and
nothing more is read from one that does not take its answers or has many questions under way.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from tiphys.base.clock import Clock
from tiphys.dns.clients import Clients
from tiphys.dns.responder import Pending, Responder

IDLE = 10.0
"""Seconds without a whole question after which a connection ends."""
MAX_CONNECTIONS = 256
MAX_OF_ONE = 64
MAX_PENDING = 64
"""Questions of one connection that wait for other servers."""
BACKLOG = 128
_PREFIX = 2


class TcpServer:
    """Answers on a bound socket while `run` runs."""

    def __init__(
        self,
        sock: socket.socket,
        responder: Responder,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        clients: Clients,
        *,
        idle: float = IDLE,
        limit: int = MAX_CONNECTIONS,
    ) -> None:
        self.responder, self.clock, self.tasks = responder, clock, tasks
        self._sock, self._clients, self._idle, self._limit = sock, clients, idle, limit
        self._connections: dict[_Connection, None] = {}
        """The one that has been silent for the longest time is first."""
        self._some = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), sock=self._sock, backlog=BACKLOG)
        try:
            await self._end_silent()
        finally:
            server.close()
            for connection in list(self._connections):
                connection.end()

    def opened(self, connection: _Connection) -> None:
        """Makes room for it: the longest silent one of its address goes, or of all. One of a stranger ends."""
        if connection.peer not in self._clients:
            connection.end()
            return
        same = [each for each in self._connections if each.peer == connection.peer]
        if len(same) >= min(MAX_OF_ONE, self._limit // 2):
            self._drop(same[0])
        elif len(self._connections) >= self._limit:
            self._drop(next(iter(self._connections)))
        self._connections[connection] = None
        self._some.set()

    def heard(self, connection: _Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def closed(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection]
        connection.end()

    async def _end_silent(self) -> None:
        """Sleeps while there are no connections."""
        while True:
            if not self._connections:
                self._some.clear()
                await self._some.wait()
            first = next(iter(self._connections))
            left = first.last + self._idle - self.clock.monotonic()
            if left > 0:
                await self.clock.sleep(left)
            else:
                self._drop(first)


class _Connection(asyncio.Protocol):
    """Reads questions and writes answers, each with its length in front."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._buffer = b""
        self._pending = 0
        self._blocked = self._ended = False
        self.peer = ""
        self.last = server.clock.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address: Any = transport.get_extra_info("peername")
        self.peer = address[0] if address else "0.0.0.0"  # noqa: S104 - it has gone again already
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def pause_writing(self) -> None:
        self._blocked = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        self._work()

    def eof_received(self) -> bool:
        """Answers that are under way are still written."""
        self._ended = True
        return self._pending > 0

    def connection_lost(self, error: Exception | None) -> None:
        self._server.closed(self)

    def end(self) -> None:
        self._transport.abort()

    def _work(self) -> None:
        """Answer the whole questions that are there, as long as answers are taken."""
        buffer, at = self._buffer, 0
        while not self._is_busy() and len(buffer) - at >= _PREFIX:
            end = at + _PREFIX + int.from_bytes(buffer[at : at + _PREFIX], "big")
            if end > len(buffer):
                break
            self._ask(buffer[at + _PREFIX : end])
            at = end
        self._buffer = buffer[at:]
        if at:
            self.last = self._server.clock.monotonic()
            self._server.heard(self)
        if self._ended or self._transport.is_closing():
            return
        if self._is_busy():
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _is_busy(self) -> bool:
        return self._blocked or self._pending >= MAX_PENDING or self._transport.is_closing()

    def _ask(self, packet: bytes) -> None:
        answer = self._server.responder.respond(packet, True)
        if isinstance(answer, bytes):
            self._write(answer)
        elif answer is not None:
            self._pending += 1
            self._server.tasks.create_task(self._finish(answer), name="dns answer")
        else:
            self.end()

    async def _finish(self, pending: Pending) -> None:
        try:
            self._write(await self._server.responder.finish(pending))
        finally:
            self._pending -= 1
        if not self._transport.is_closing():
            self._work()
        if self._ended and not self._pending:
            self._transport.close()

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(len(answer).to_bytes(_PREFIX, "big") + answer)
