"""The agent of rootless mode: it stays in the user's own network and makes sockets there for the others.

Each connection to its Unix socket is one request, {"bind": [address, port], "kind": 1 for TCP or 2 for UDP} or
{"connect": [host, port]}, answered by the socket, or by [errno, message]. The path is in a directory that only the
user may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

from tiphys.base import outside

CONNECT_TIMEOUT = 30.0
BACKLOG = 128


def listening(path: Path) -> socket.socket:
    """The socket at `path`; one that a dead agent left there is replaced."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    opened.bind(str(path))
    path.chmod(0o600)
    opened.listen(BACKLOG)
    return opened


async def run(server: socket.socket) -> None:
    """Serve until cancelled."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            channel, _ = await loop.sock_accept(server)
            group.create_task(_serve(channel))


async def _serve(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with channel:
        try:
            request = json.loads(await loop.sock_recv(channel, outside.MAX_MESSAGE))
            with await _opened(request) as opened:
                socket.send_fds(channel, [b"{}"], [opened.fileno()])
        except (OSError, ValueError, KeyError, TypeError) as error:
            number = getattr(error, "errno", None) or _number(error)
            text = os.strerror(number) if number > 0 else str(error)  # a name that is not known has a number below 0
            with contextlib.suppress(OSError):
                channel.send(json.dumps([number, text]).encode())


def _number(error: Exception) -> int:
    return errno.ETIMEDOUT if isinstance(error, TimeoutError) else errno.EIO


async def _opened(request: dict[str, Any]) -> socket.socket:
    if "bind" in request:
        address, port = request["bind"]
        kind = socket.SOCK_DGRAM if request.get("kind") == socket.SOCK_DGRAM else socket.SOCK_STREAM
        return outside.bound(address, int(port), kind)
    host, port = request["connect"]
    error = OSError(errno.EIO, f"no address for {host}")
    for family, kind, _, _, address in await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            return await _connected(socket.socket(family, kind | socket.SOCK_NONBLOCK), address)
        except OSError as refused:
            error = refused
    raise error


async def _connected(opened: socket.socket, address: Any) -> socket.socket:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened
