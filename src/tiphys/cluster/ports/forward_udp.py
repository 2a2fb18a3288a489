"""Published UDP ports without the kernel's help: each client has a socket of its own to its backend, for a while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from tiphys.base.clock import Clock
from tiphys.cluster.ports.backends import Backend
from tiphys.cluster.ports.choice import Choice

log = logging.getLogger(__name__)

IDLE = 60.0
"""Seconds after which a client is forgotten that says nothing and is told nothing."""
MAX_CLIENTS = 4096
"""Clients remembered for one port."""
_LARGEST = 1 << 16
_AT_ONCE = 64


async def forward_datagrams(opened: socket.socket, choice: Choice, clock: Clock) -> None:
    """Carry datagrams that come to the bound socket to backends, and the answers back, until cancelled."""
    async with asyncio.TaskGroup() as group:
        port = _Port(opened, choice, clock, group)
        loop = asyncio.get_running_loop()
        loop.add_reader(opened, port.read)
        try:
            await loop.create_future()
        finally:
            loop.remove_reader(opened)


class _Port:
    def __init__(self, opened: socket.socket, choice: Choice, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._opened, self._choice, self._clock, self._group = opened, choice, clock, group
        self._clients: dict[Any, _Client] = {}

    def read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, peer = self._opened.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:  # a client did not want its answer
                log.debug("published datagrams: %s", error)
                return
            if client := self._client(peer):
                client.ask(data)

    def _client(self, peer: Any) -> _Client | None:
        known = self._clients.get(peer)
        if known and known.backend in self._choice:
            return known
        if known:  # its backend has gone
            known.close()
        backend = self._choice.of(peer[0])
        if backend is None or len(self._clients) >= MAX_CLIENTS:
            return None
        client = self._clients[peer] = _Client(backend, lambda data: self._answer(peer, data), self._clock)
        self._group.create_task(self._forget_idle(peer, client), name="published datagrams")
        return client

    def _answer(self, peer: Any, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._opened.sendto(data, peer)

    async def _forget_idle(self, peer: Any, client: _Client) -> None:
        try:
            while (left := client.used + IDLE - self._clock.monotonic()) > 0 and not client.closed:
                await self._clock.sleep(left)
        finally:
            client.close()
            if self._clients.get(peer) is client:
                del self._clients[peer]


class _Client:
    """A client's own socket to its backend."""

    def __init__(self, backend: Backend, tell: Callable[[bytes], None], clock: Clock) -> None:
        self.backend, self._tell, self._clock = backend, tell, clock
        self.used = clock.monotonic()
        self.closed = False
        family = socket.AF_INET6 if ":" in backend[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.connect(backend)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def ask(self, data: bytes) -> None:
        self.used = self._clock.monotonic()
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_LARGEST)
        except OSError:  # nothing there yet, or nobody listens
            return
        self.used = self._clock.monotonic()
        self._tell(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket)
            self._socket.close()
