"""Sessions over SPDY: a stream for each of stdin, stdout, stderr, error (the status) and resize."""

from __future__ import annotations

import asyncio
import logging

from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.base.http.types import Duplex
from tiphys.kubelet.streaming.session import Input, OpenSession, Options, Status, encode_status, run

_log = logging.getLogger(__name__)

VERSIONS = {"v4.channel.k8s.io": 4, "v3.channel.k8s.io": 3, "v2.channel.k8s.io": 2, "channel.k8s.io": 1}
"""What X-Stream-Protocol-Version may ask for, the preferred first."""
STREAM_TIMEOUT = 30.0
"""Seconds that the client may take to open its streams."""
_KINDS = frozenset({"error", "stdin", "stdout", "stderr", "resize"})


class StreamFront:
    """`session.Front` over SPDY streams."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._streams: dict[str, SpdyStream] = {}
        self._complete = asyncio.Event()
        self._gone = asyncio.Event()
        self._expected: frozenset[str] = frozenset()

    async def accept(self, stream: SpdyStream) -> bool:
        """Take a stream that the client opens; `spdy.Accept`."""
        kind = stream.headers.get("streamtype", "")
        if kind not in _KINDS or kind in self._streams:
            return False
        self._streams[kind] = stream
        if self._expected <= self._streams.keys():
            self._complete.set()
        return True

    async def wait_streams(self, options: Options) -> None:
        """Until all that the options ask for are open. Raises TimeoutError."""
        wanted = {"stdin": options.stdin, "stdout": options.stdout, "stderr": options.stderr and not options.tty}
        wanted["resize"] = options.tty and self._version >= 3
        self._expected = frozenset({"error"} | {kind for kind, asked in wanted.items() if asked})
        if not self._expected <= self._streams.keys():
            async with asyncio.timeout(STREAM_TIMEOUT):
                await self._complete.wait()

    def client_gone(self) -> None:
        self._gone.set()

    async def feed(self, target: Input) -> None:
        async with asyncio.TaskGroup() as group:
            pumps = [group.create_task(self._stdin(target)), group.create_task(self._resize(target))]
            await self._gone.wait()
            for pump in pumps:
                pump.cancel()

    async def _stdin(self, target: Input) -> None:
        stream = self._streams.get("stdin")
        if stream is not None:
            while data := await stream.read():
                await target.stdin(data)
            if not self._gone.is_set():
                await target.stdin_end()

    async def _resize(self, target: Input) -> None:
        """The stream is a sequence of JSON objects, each on a line of its own."""
        stream = self._streams.get("resize")
        rest = b""
        while stream is not None and (data := await stream.read()):
            rest += data
            while b"}" in rest:
                message, _, rest = rest.partition(b"}")
                await target.resize(message + b"}")
            if len(rest) > 4096:
                return

    async def output(self, descriptor: int, data: bytes) -> None:
        stream = self._streams.get("stdout" if descriptor == 1 else "stderr")
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Status) -> None:
        for kind in ("stdout", "stderr"):
            if kind in self._streams:
                await self._streams[kind].write_eof()
        await self._streams["error"].write(encode_status(status, self._version))
        await self._streams["error"].write_eof()


async def serve(duplex: Duplex, version: int, open_session: OpenSession, options: Options) -> None:
    """Run a session on an upgraded connection."""
    connection = SpdyConnection(duplex)
    front = StreamFront(version)

    async def read() -> None:
        try:
            await connection.run(front.accept)
        finally:
            front.client_gone()

    try:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read())
            try:
                await front.wait_streams(options)
                await run(front, open_session, options)
            finally:
                await connection.close()
                reading.cancel()
    except* OSError as gone:
        _log.debug("session ended: %s", gone.exceptions[0])
