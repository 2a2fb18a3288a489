"""Serving gRPC on a Unix socket. Until somebody connects there is nothing but the socket: no library, no memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.base.grpc.paths import ShortPath
from tiphys.base.grpc.types import Handler, Method

if TYPE_CHECKING:
    from grpclib.protocol import H2Protocol
    from grpclib.server import Server

_BACKLOG = 64


class UnixServer:
    """Answers calls of `handlers` at `path`, in place of what was there before."""

    def __init__(self, path: Path, handlers: Mapping[Method, Handler], mode: int = 0o600) -> None:
        self.path = path
        self._handlers = handlers
        self._mode = mode

    async def run(self) -> None:
        """Until cancelled; the socket goes with it. Raises OSError."""
        listening = _listen(self.path, self._mode)
        inode = os.stat(self.path).st_ino
        try:
            await _readable(listening)
            await self._serve(listening)
        finally:
            listening.close()
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.path).st_ino == inode:
                    self.path.unlink()

    async def _serve(self, listening: socket.socket) -> None:
        from tiphys.base.grpc.transport import make_server

        server: Server = make_server(self._handlers)
        loop = asyncio.get_running_loop()
        callers: weakref.WeakSet[H2Protocol] = weakref.WeakSet()

        def accept() -> H2Protocol:
            made = server._protocol_factory()  # grpclib itself binds by path only
            callers.add(made)
            return made

        serving = await loop.create_unix_server(accept, sock=listening)
        try:
            await asyncio.Event().wait()  # not serve_forever: its end waits for that of all connections
        finally:
            serving.close()
            for caller in callers:
                caller.connection.close()


def _listen(path: Path, mode: int) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    address = ShortPath(str(path))
    try:
        made.bind(address.text)
        path.chmod(mode)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    finally:
        address.close()
    return made


async def _readable(listening: socket.socket) -> None:
    """Until somebody connects; the connection stays in the queue."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(listening.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(listening.fileno())
