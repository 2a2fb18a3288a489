"""DNS by UDP: a socket that is emptied packet by packet, a batch in each turn of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

from tiphys.dns.clients import Clients
from tiphys.dns.responder import Pending, Responder

log = logging.getLogger(__name__)

BATCH = 64
"""Packets in one turn of the loop: others of this process get theirs within a millisecond or so."""
_LARGEST = 4096
MAX_PENDING = 2000
"""Questions that wait for other servers; what comes beyond is left to be asked again."""
RECEIVE_BUFFER = 1 << 20


class UdpServer:
    """Answers on a bound socket while `run` runs."""

    def __init__(self, sock: socket.socket, responder: Responder, tasks: asyncio.TaskGroup, clients: Clients) -> None:
        self._sock, self._responder, self._tasks, self._clients = sock, responder, tasks, clients
        self._pending = 0
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # what the kernel allows is enough
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock.fileno(), self._drain)
        try:
            await loop.create_future()
        finally:
            loop.remove_reader(self._sock.fileno())

    def _drain(self) -> None:
        sock, respond, clients = self._sock, self._responder.respond, self._clients
        for _ in range(BATCH):
            try:
                packet, peer = sock.recvfrom(_LARGEST)
            except OSError:  # empty; or an ICMP message about an answer of ours
                return
            answer = respond(packet, False) if peer[0] in clients else None
            if isinstance(answer, bytes):
                self._send(answer, peer)
            elif answer is not None and self._pending < MAX_PENDING:
                self._pending += 1
                self._tasks.create_task(self._finish(answer, peer), name="dns answer")

    async def _finish(self, pending: Pending, peer: Any) -> None:
        try:
            self._send(await self._responder.finish(pending), peer)
        finally:
            self._pending -= 1

    def _send(self, answer: bytes, peer: Any) -> None:
        """What cannot be sent now is lost, as any packet may be: its receiver asks again."""
        try:
            self._sock.sendto(answer, peer)
        except OSError as error:
            log.debug("no answer to %s: %s", peer, error.strerror)
