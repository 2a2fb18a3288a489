"""pods/log over a WebSocket: the log's bytes as messages, until it ends or the client leaves (for browsers)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

from tiphys.base.http.types import Request, Response
from tiphys.base.http.websocket import WebSocket, accept

BASE64 = "base64.binary.k8s.io"
PROTOCOLS = ("", "binary.k8s.io", BASE64)


def serve(request: Request, stream: AsyncIterator[bytes]) -> Response:
    """Upgrade and send `stream`. Raises BadRequest, Forbidden for a handshake that cannot be."""

    async def session(socket: WebSocket) -> None:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send(socket, stream))
            while await socket.recv() is not None:
                pass  # nothing that a client says matters but that it leaves
            sender.cancel()

    return accept(request, PROTOCOLS, session)


async def _send(socket: WebSocket, stream: AsyncIterator[bytes]) -> None:
    async for chunk in stream:
        await socket.send(base64.b64encode(chunk).decode() if socket.protocol == BASE64 else chunk)
    await socket.close()
