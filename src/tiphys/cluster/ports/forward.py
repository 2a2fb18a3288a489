"""Published TCP ports without the kernel's help: bytes are copied by this process.

For rootless mode, where the host's network is another one than the cluster's, and between IPv6 and IPv4. Connections
end with the process, unlike those that the kernel translates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from tiphys.base.clock import Clock
from tiphys.cluster.ports.backends import Backend
from tiphys.cluster.ports.choice import Choice
from tiphys.cluster.ports.forward_udp import forward_datagrams

log = logging.getLogger(__name__)

CHUNK = 1 << 16
BACKLOG = 128
CONNECT_WITHIN = 10.0
PAUSE = 0.1
"""Seconds to wait when there are no descriptors left for connections."""


def listen(opened: socket.socket) -> None:
    """Let clients come to the bound socket; `forward` serves them."""
    opened.setblocking(False)
    if opened.type == socket.SOCK_STREAM:
        # What was accepted keeps the port for a while after its end: only so does the next process get it at once.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.listen(BACKLOG)


async def forward(opened: socket.socket, choice: Choice, clock: Clock) -> None:
    """Carry what comes to the socket to backends, until cancelled; TCP or UDP, as the socket is."""
    if opened.type == socket.SOCK_DGRAM:
        await forward_datagrams(opened, choice, clock)
        return
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                connection, peer = await loop.sock_accept(opened)
            except OSError as error:
                log.warning("published port %s: %s", opened.getsockname()[1], error)
                await clock.sleep(PAUSE)
                continue
            group.create_task(_serve(connection, choice.of(peer[0])), name="published connection")


async def _serve(connection: socket.socket, backend: Backend | None) -> None:
    with contextlib.suppress(OSError):
        near_reader, near = await asyncio.open_connection(sock=connection, limit=CHUNK)
        try:
            await _join(near_reader, near, backend)
        finally:
            near.transport.abort()


async def _join(near_reader: asyncio.StreamReader, near: asyncio.StreamWriter, backend: Backend | None) -> None:
    if backend is None:
        return
    async with asyncio.timeout(CONNECT_WITHIN):
        far_reader, far = await asyncio.open_connection(*backend, limit=CHUNK)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(near_reader, far))
            both.create_task(_copy(far_reader, near))
        near.close()
        await near.wait_closed()
    except* OSError as group:  # one of them went away: so does the other
        log.debug("published connection to %s: %s", backend, group.exceptions[0])
    finally:
        far.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await writer.drain()
