"""TCP connections into a sandbox's network, for port-forward, and from a node's."""

from __future__ import annotations

import asyncio
import contextlib
import os
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
    reasons: list[str] = []
    for number, family, address in (("4", socket.AF_INET, "127.0.0.1"), ("6", socket.AF_INET6, "::1")):
        try:
            return SocketDuplex(await _connect(namespace, family, address, port))
        except OSError as error:
            shown = f"[{address}]" if number == "6" else address
            reason = os.strerror(error.errno or 0).lower()
            reasons.append(f"IPv{number}: dial tcp{number} {shown}:{port}: connect: {reason}")
    raise RuntimeFailure(f'failed to connect to localhost:{port} inside namespace "{namespace}", {" ".join(reasons)}')


async def connect_from(namespace: str, host: str, port: int) -> socket.socket:
    """A connection to a loopback address of the namespace, not blocking. Raises OSError."""
    own = {"localhost": ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))}
    choices = own.get(host, ((socket.AF_INET6 if ":" in host else socket.AF_INET, host),))
    failure: OSError = ConnectionRefusedError(111, "Connection refused")
    for family, address in choices:
        try:
            return await _connect(namespace, family, address, port)
        except OSError as error:
            failure = error
    raise failure


async def _connect(namespace: str, family: int, address: str, port: int) -> socket.socket:
    connection = await asyncio.to_thread(socket_in, namespace, family)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection
