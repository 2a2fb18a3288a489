"""Exec, attach and port-forward by the streaming server that a CRI runtime names: SPDY/3.1, as kubelets speak it.

Each stream of a session is one of SPDY's; the exit code comes as a Status on the error stream (v4.channel.k8s.io).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from tiphys.base.http.client import HttpClient
from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.base.http.types import Duplex
from tiphys.runtime.types import RuntimeFailure

log = logging.getLogger(__name__)

PROTOCOL = "v4.channel.k8s.io"
FORWARD = "portforward.k8s.io"


async def connect(url: str, protocol: str) -> SpdyConnection:
    """The connection at a URL that the runtime gave; somebody must `run` it. Raises RuntimeFailure."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    client = HttpClient(f"{parts.scheme}://{parts.netloc}")
    headers = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol}
    try:
        answer, duplex = await client.upgrade("POST", path, headers)
    except (OSError, TimeoutError) as error:
        raise RuntimeFailure(f"the runtime's streaming server does not answer: {error}") from error
    if duplex is None:
        text = answer.body.decode(errors="replace").strip()
        raise RuntimeFailure(f"the runtime's streaming server refused: {answer.status} {text}")
    return SpdyConnection(duplex, server=False)


class CriSession:
    """A running exec or an attachment; see runtime.types.Session."""

    def __init__(self, connection: SpdyConnection, tty: bool, stdin: bool, lost: int) -> None:
        self._lost = lost
        """The exit code when the connection ends before one came."""
        self._connection = connection
        self._tty, self._wants_stdin = tty, stdin
        self._stdin: SpdyStream | None = None
        self._resize: SpdyStream | None = None
        self.opened = asyncio.Event()
        """There are streams to write to, or the session has ended."""
        self._chunks: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(64)
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Open the streams and carry what comes; until the session has ended."""
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._serve())
            try:
                await self._carry(group)
            except (OSError, RuntimeFailure) as error:
                log.info("a session of the runtime's ended: %s", error)
            await self._chunks.put(None)
            await self._connection.close()
            serving.cancel()
        self._ended(self._lost)

    async def _serve(self) -> None:
        with contextlib.suppress(OSError):
            await self._connection.run()

    async def _carry(self, group: asyncio.TaskGroup) -> None:
        error = await self._connection.open({"streamtype": "error"})
        if self._wants_stdin:
            self._stdin = await self._connection.open({"streamtype": "stdin"})
        outputs = [group.create_task(self._read(1, await self._connection.open({"streamtype": "stdout"})))]
        if self._tty:
            self._resize = await self._connection.open({"streamtype": "resize"})
        else:
            outputs.append(group.create_task(self._read(2, await self._connection.open({"streamtype": "stderr"}))))
        self.opened.set()
        text = b""
        while data := await error.read():
            text += data
        await asyncio.wait(outputs)
        code, message, exited = exit_code(text)
        if not exited and message:
            await self._chunks.put((1 if self._tty else 2, f"{message}\n".encode()))
        self._ended(code)

    async def _read(self, number: int, stream: SpdyStream) -> None:
        with contextlib.suppress(OSError):
            while data := await stream.read():
                await self._chunks.put((number, data))

    def _ended(self, code: int) -> None:
        self.opened.set()
        if not self._exit.done():
            self._exit.set_result(code)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks until all streams have ended."""
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    async def write(self, data: bytes) -> None:
        """To stdin; nothing happens when it has been closed."""
        await self.opened.wait()
        if self._stdin is not None:
            with contextlib.suppress(OSError):
                await self._stdin.write(data)

    async def close_stdin(self) -> None:
        await self.opened.wait()
        if self._stdin is not None:
            with contextlib.suppress(OSError):
                await self._stdin.write_eof()

    async def detach(self) -> None:
        """End of input."""
        await self.close_stdin()

    async def resize(self, width: int, height: int) -> None:
        await self.opened.wait()
        if self._resize is not None:
            with contextlib.suppress(OSError):
                await self._resize.write(json.dumps({"Width": width, "Height": height}).encode())

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        await self._connection.close()


def exit_code(text: bytes) -> tuple[int, str, bool]:
    """(code, message, whether a program ran and ended) of the Status on the error stream; "" is success. Pure."""
    if not text.strip():
        return 0, "", True
    try:
        status = json.loads(text)
    except ValueError:
        return 1, text.decode(errors="replace"), False
    if status.get("status") == "Success":
        return 0, "", True
    message = str(status.get("message") or "")
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"]), message, True
    return 1, message, False


class Forwarded:
    """A Duplex: one port of a sandbox over a connection of its own."""

    def __init__(self, connection: SpdyConnection, data: SpdyStream) -> None:
        self._connection, self._data = connection, data

    async def read(self, limit: int = 65536) -> bytes:
        return await self._data.read(limit)

    async def write(self, data: bytes) -> None:
        await self._data.write(data)

    async def write_eof(self) -> None:
        await self._data.write_eof()

    async def close(self) -> None:
        await self._connection.close()


async def forward(connection: SpdyConnection, port: int) -> Duplex:
    """Streams to a port; `connection` must be running."""
    headers = {"port": str(port), "requestID": "0"}
    error = await connection.open({**headers, "streamtype": "error"})
    await error.write_eof()
    return Forwarded(connection, await connection.open({**headers, "streamtype": "data"}))
