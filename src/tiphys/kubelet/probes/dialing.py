"""Connections to pods as the node makes them: probes and hooks come from the node, wherever its process is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

Dial = Callable[[str, int], Awaitable[socket.socket]]
"""A connected socket that does not block, to a host and port, from inside the node's network. Raises OSError."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_streams(
    dial: Dial | None, host: str, port: int, tls: ssl.SSLContext | None = None, limit: int = 1 << 16
) -> Streams:
    """Connect; without `dial` from this process's own network. `limit` in bytes of a line. Raises OSError."""
    if dial is None:
        return await asyncio.open_connection(host, port, ssl=tls, limit=limit)
    connection = await dial(host, port)
    try:
        return await asyncio.open_connection(
            sock=connection, ssl=tls, server_hostname=host if tls else None, limit=limit
        )
    except BaseException:
        connection.close()
        raise
