"""WATCH over a WebSocket: one text message an event, until either side closes (for clients in browsers)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tiphys.base.http.types import Request, Response
from tiphys.base.http.websocket import WebSocket, accept

PROTOCOLS = ("", "binary.k8s.io")


def serve(request: Request, stream: AsyncIterator[bytes]) -> Response:
    """Upgrade and send `stream`, a watch as JSON lines."""

    async def session(socket: WebSocket) -> None:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send(socket, stream))
            while await socket.recv() is not None:
                pass  # nothing that a client says matters but that it leaves
            sender.cancel()

    return accept(request, PROTOCOLS, session)


async def _send(socket: WebSocket, stream: AsyncIterator[bytes]) -> None:
    binary = socket.protocol == "binary.k8s.io"
    async for chunk in stream:
        for line in chunk.splitlines():
            await socket.send(line if binary else line.decode())
    await socket.close()
