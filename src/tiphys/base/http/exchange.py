"""One connection of the client: a request out, its response in, by httptools; then the next.

`client.HttpClient` owns the pool. A body is handed on as it comes; when its reader is slow, so is the server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import httptools

from tiphys.base.http.parse import MAX_HEAD, add_header
from tiphys.base.http.types import Headers
from tiphys.base.http.wire import Wire

BUFFER = 1 << 20
"""Bytes of a response's body read ahead of its reader."""


class ClientConnection:
    """See the module's docstring. Methods named on_* are httptools' callbacks; `received` ... `lost` the Wire's."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop, forget: Callable[[ClientConnection], None]) -> None:
        self._wire = wire
        self._loop = loop
        self._forget = forget
        self._waiter: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._error: OSError | None = None
        self._rest = b""
        self.reused = False
        self._start("")
        self._finished = True
        wire.adopt(self)

    def _start(self, method: str) -> None:
        self._method = method
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._head_size = 0
        self._head_done = self._finished = self._keep_alive = self._answered = False
        self.status = 0
        self.headers: Headers = {}

    @property
    def closed(self) -> bool:
        return self._wire.closing

    @property
    def stale(self) -> bool:
        """It served requests before and broke before any of this answer came: the request was likely never read."""
        return self.reused and not self._answered

    @property
    def reusable(self) -> bool:
        return self._finished and self._keep_alive and not self._chunks and not self.closed and self._method != ""

    def abort(self) -> None:
        self._wire.abort()

    def give_up(self) -> tuple[Wire, bytes]:
        """The wire and what was read past the head, for the protocol after an upgrade."""
        self._wire.pause_reading()
        return self._wire, self._rest

    async def ask(self, method: str, head: bytes, body: bytes) -> None:
        """Send a request and wait for the head of its answer. Raises ConnectionError."""
        self._start(method)
        self._wire.write(head)
        self._wire.write(body)
        self._wire.flush()
        while not self._head_done:
            await self._progress()

    async def _progress(self) -> None:
        """Wait for the next piece of the answer."""
        if self._error is not None:
            raise self._error
        if self.closed:
            raise ConnectionResetError("the server closed the connection")
        self._waiter = self._loop.create_future()
        await self._waiter

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises ConnectionError when it breaks off."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft() if len(self._chunks) == 1 else self._take()
                self._size = 0
                self._wire.resume_reading()
                yield chunk
            if self._finished:
                return
            await self._progress()

    def _take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken

    async def whole_body(self) -> bytes:
        pieces = [piece async for piece in self.chunks()]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # Reports of the wire

    def connected(self) -> None:
        """Part of `wire.Receiver`; the handshake was over before."""

    def received(self, data: bytes) -> None:
        if self._finished:  # nobody asked
            self._wire.abort()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._rest = data[offer.args[0] :]
            self._wire.pause_reading()
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"malformed response: {error}"))
        if not self._head_done:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._fail(ConnectionError(f"the response's head is larger than {MAX_HEAD} bytes"))
        if self._size > BUFFER:
            self._wire.pause_reading()
        self._wake()

    def ended(self) -> None:
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self._head_done and not framed:
            self._finished = True
        self._wire.abort()

    def lost(self, error: OSError | None) -> None:
        if not self._finished and self._error is None:
            self._error = error or ConnectionResetError("the server closed the connection")
        self._forget(self)
        self._wake()

    def _fail(self, error: OSError) -> None:
        self._error = error
        self._wire.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        add_header(self.headers, name, value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self.status = status
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()
        if self._method == "HEAD":
            self._finished = True
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        if not self._finished:
            self._chunks.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._finished = True
        else:  # 1xx: the answer is still to come
            self.headers = {}
