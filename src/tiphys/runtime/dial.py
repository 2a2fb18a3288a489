"""TCP connections into a sandbox's network, for port-forward."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from tiphys.runtime.netns import socket_in
from tiphys.runtime.types import RuntimeFailure


class SocketDuplex:
    """A connected socket as a Duplex (base.http.types)."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    async def read(self, limit: int = 65536) -> bytes:
        """Up to `limit` bytes; b"" at the end, also when the peer reset the connection."""
        try:
            return await self._loop.sock_recv(self._socket, limit)
        except (ConnectionError, ValueError):
            return b""

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the peer has gone."""
        await self._loop.sock_sendall(self._socket, data)

    async def write_eof(self) -> None:
        """Nothing more will be written."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Let go."""
        self._socket.close()


async def connect_in(namespace: str, port: int) -> SocketDuplex:
    """Connect to localhost:`port` inside the namespace, by IPv4 and else by IPv6. Raises RuntimeFailure."""
    last: OSError | None = None
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            connection = await asyncio.to_thread(socket_in, namespace, family)
        except OSError as error:
            last = last or error
            continue
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except OSError as error:
            connection.close()
            last = last or error
            continue
        return SocketDuplex(connection)
    raise RuntimeFailure(f"failed to connect to localhost:{port} inside namespace: {last}") from last
