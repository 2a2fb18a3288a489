"""SPDY/3.1 over a byte stream: many two-way streams in one connection.

kubectl's exec, attach and port-forward still use it, on upgraded connections and inside WebSockets. `SpdyConnection`
plays either side; each `SpdyStream` is a Duplex. The well-known peer (moby/spdystream) neither counts windows nor
updates them, so ours are kept for peers that do: the first WINDOW_UPDATE or SETTINGS shows it. Push and priorities
are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from tiphys.base.http import spdy_frames as wire
from tiphys.base.http.spdy_frames import FIN, INITIAL_WINDOW, Frame, FrameReader, HeaderCodec, Kind, Reset, SpdyError
from tiphys.base.http.types import Duplex

PIECE = 32768
"""Bytes of data in one frame: other streams get their turn in between."""
STREAM_BUFFER = 1 << 20
"""Bytes of one stream kept for a slow reader; beyond it the whole connection waits, as with the known peers."""


class SpdyStream:
    """One stream: a Duplex with the headers that opened it. Made by `SpdyConnection`."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.id = number
        self.headers = dict(headers)
        self._chunks: deque[bytes] = deque()
        self._size = self._unreported = 0
        self._ended = self._finished = False
        self._changed = asyncio.Event()
        self._window = connection.initial_window

    async def read(self, limit: int = 65536) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        chunk = self._chunks.popleft()
        if len(chunk) > limit:
            self._chunks.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        self._size -= len(chunk)
        self._changed.set()
        self._unreported += len(chunk)
        if self._unreported >= INITIAL_WINDOW // 2 and not self._ended:
            delta, self._unreported = self._unreported, 0
            await self._connection.send(wire.window_update(self.id, delta))
        return chunk

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = bytes(view[start : start + PIECE])
            if self._finished:
                raise ConnectionResetError(f"stream {self.id} is closed")
            if self._connection.counts_windows:
                await self._wait_window(len(piece))
            self._window -= len(piece)
            await self._connection.send(wire.data_frame(self.id, piece))

    async def _wait_window(self, size: int) -> None:
        while self._window < min(size, INITIAL_WINDOW // 2):
            if self._finished:
                raise ConnectionResetError(f"stream {self.id} is closed")
            self._changed.clear()
            await self._changed.wait()

    async def write_eof(self) -> None:
        if not self._finished:
            self._finished = True
            with contextlib.suppress(OSError):
                await self._connection.send(wire.data_frame(self.id, b"", FIN))
            self._retire()

    async def close(self) -> None:
        """Both directions: what was written still arrives, what comes is dropped."""
        await self.write_eof()
        self.end()
        self._chunks.clear()
        self._retire()

    async def reset(self, reason: Reset = Reset.CANCEL) -> None:
        """Both directions, abruptly."""
        self.cut()
        with contextlib.suppress(OSError):
            await self._connection.send(wire.rst_stream(self.id, reason))
        self._retire()

    # Called by the connection

    async def receive(self, data: bytes) -> None:
        if self._ended:
            return
        while self._size > STREAM_BUFFER and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        self._chunks.append(data)
        self._size += len(data)
        self._changed.set()

    def widen(self, delta: int) -> None:
        self._window += delta
        self._changed.set()

    def end(self) -> None:
        """The peer will send no more."""
        self._ended = True
        self._changed.set()
        self._retire()

    def cut(self) -> None:
        """Nothing goes any more, either way."""
        self._finished = True
        self.end()

    def _retire(self) -> None:
        if self._ended and self._finished:
            self._connection.forget(self)


Accept = Callable[[SpdyStream], Awaitable[bool]]
"""Takes a new stream, promptly (start a task for the work); False refuses it."""


class SpdyConnection:
    """See the module's docstring. `run` reads until the peer has gone; the streams work while it runs."""

    def __init__(self, duplex: Duplex, *, server: bool = True) -> None:
        self._duplex = duplex
        self._server = server
        self._codec = HeaderCodec()
        self._streams: dict[int, SpdyStream] = {}
        self._next = 2 if server else 1
        self._highest = 0
        self._replies: dict[int, asyncio.Future[None]] = {}
        self.counts_windows = False
        self.initial_window = INITIAL_WINDOW
        self.closed = False

    async def send(self, frame: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("the SPDY connection is closed")
        await self._duplex.write(frame)

    def forget(self, stream: SpdyStream) -> None:
        self._streams.pop(stream.id, None)

    async def open(self, headers: Mapping[str, str]) -> SpdyStream:
        """A new stream, accepted by the peer. Raises ConnectionError."""
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = SpdyStream(self, number, headers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self.send(wire.syn_stream(number, self._codec.pack(headers)))
        await reply
        return stream

    async def run(self, accept: Accept | None = None) -> None:
        """Serve the connection until it ends. Raises SpdyError when the peer breaks the protocol."""
        reader = FrameReader()
        try:
            while data := await self._duplex.read():
                for frame in reader.feed(data):
                    await self._handle(frame, accept)
        except SpdyError:
            with contextlib.suppress(OSError):
                await self.send(wire.control_frame(Kind.GOAWAY, self._highest.to_bytes(4) + (1).to_bytes(4)))
            raise
        finally:
            await self.close()

    async def close(self) -> None:
        """End every stream, then the connection; what was written still arrives."""
        self.closed = True
        for stream in tuple(self._streams.values()):
            stream.cut()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionResetError("the SPDY connection is closed"))
        await self._duplex.close()

    async def _handle(self, frame: Frame, accept: Accept | None) -> None:
        if frame.kind == 0:
            await self._data(frame)
        elif frame.kind == Kind.SYN_STREAM:
            await self._syn_stream(frame, accept)
        elif frame.kind == Kind.PING:
            if word_is_theirs(wire.word(frame.payload, 0), self._server):
                await self.send(wire.control_frame(Kind.PING, frame.payload[:4]))
        elif frame.kind == Kind.SETTINGS:
            self._settings(frame.payload)
        elif frame.kind in (Kind.SYN_REPLY, Kind.RST_STREAM, Kind.HEADERS, Kind.WINDOW_UPDATE):
            self._about_stream(frame)
        # GOAWAY needs nothing: the end of the connection follows. Unknown kinds are to be ignored.

    async def _data(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            if not frame.flags & FIN:
                await self.send(wire.rst_stream(frame.stream, Reset.INVALID_STREAM))
            return
        if frame.payload:
            await stream.receive(frame.payload)
        if frame.flags & FIN:
            stream.end()

    async def _syn_stream(self, frame: Frame, accept: Accept | None) -> None:
        number = wire.word(frame.payload, 0)
        headers = self._codec.unpack(frame.payload[10:])
        if not word_is_theirs(number, self._server) or number <= self._highest:
            raise SpdyError(f"stream number {number} is out of order")
        self._highest = number
        stream = self._streams[number] = SpdyStream(self, number, headers)
        if accept is None or not await accept(stream):
            await stream.reset(Reset.REFUSED_STREAM)
            return
        await self.send(wire.syn_reply(number, self._codec.pack({})))
        if frame.flags & FIN:
            stream.end()

    def _about_stream(self, frame: Frame) -> None:
        number = wire.word(frame.payload, 0)
        if frame.kind in (Kind.SYN_REPLY, Kind.HEADERS):
            self._codec.unpack(frame.payload[4:])  # the zlib stream goes on through every block
        stream = self._streams.get(number)
        reply = self._replies.pop(number, None) if frame.kind in (Kind.SYN_REPLY, Kind.RST_STREAM) else None
        if frame.kind == Kind.WINDOW_UPDATE:
            self.counts_windows = True
            if stream is not None:
                stream.widen(wire.word(frame.payload, 1))
        elif frame.kind == Kind.RST_STREAM:
            if stream is not None:
                stream.cut()
            if reply is not None and not reply.done():
                reply.set_exception(ConnectionResetError(f"stream {number} was refused"))
        elif reply is not None and not reply.done():
            reply.set_result(None)
        if stream is not None and frame.kind != Kind.RST_STREAM and frame.flags & FIN:
            stream.end()

    def _settings(self, payload: bytes) -> None:
        for index in range(wire.word(payload, 0)):
            name, value = wire.word(payload, 1 + 2 * index) & 0xFFFFFF, wire.word(payload, 2 + 2 * index)
            if name == wire.SETTINGS_INITIAL_WINDOW:
                self.counts_windows = True
                for stream in self._streams.values():
                    stream.widen(value - self.initial_window)
                self.initial_window = value


def word_is_theirs(number: int, we_serve: bool) -> bool:
    """Whether a stream or ping number is of the peer's parity: odd for clients, even for servers."""
    return bool(number & 1) == we_serve
