"""One connected socket, plain or TLS, driven by the event loop's readiness calls.

asyncio's own TLS copies everything through memory BIOs; a non-blocking `ssl.SSLSocket` lets OpenSSL work on the
socket itself, which serves more requests a second in a third of the memory. `Wire` does only that: bytes in to a
`Receiver`, bytes out with a queue, flow control both ways, orderly and abrupt ends. HTTP is in the modules around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from tiphys.base.tls_request import RequestingContext, presented

PLAIN_READ = 65536
TLS_READ = 16384
"""One TLS record. OpenSSL reads no further than the record it is in, so nothing hides from the poller."""
GATHER = 65536
HIGH_WATER = 131072
LOW_WATER = 32768
PATIENCE = 10.0
"""Seconds that a closing connection may stand still before it is cut."""


class Receiver(Protocol):
    """What a Wire reports to. Calls come from the event loop and must not block."""

    def connected(self) -> None:
        """The TLS handshake is over (at once without TLS)."""
        ...

    def received(self, data: bytes) -> None: ...

    def ended(self) -> None:
        """The peer will send no more. Writing may still work."""
        ...

    def lost(self, error: OSError | None) -> None:
        """The connection is over, for good; called once."""
        ...


class _Nobody:
    """Who is told when all is over."""

    def connected(self) -> None: ...

    def received(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def lost(self, error: OSError | None) -> None: ...


_NOBODY = _Nobody()


class _Linger(Enum):
    NO = 0
    ASKED = 1
    WAITING = 2


class Wire:
    """See the module's docstring. `sock` is connected and non-blocking; an SSLSocket has not shaken hands yet."""

    __slots__ = (
        "_blocked", "_closing", "_drained", "_eof", "_fd", "_linger", "_loop", "_out", "_paused", "_receiver",
        "_scheduled", "_sock", "buffered", "closed", "sent", "tls",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self.tls = isinstance(sock, ssl.SSLSocket)
        self._receiver = receiver
        self._loop = loop
        self._out: deque[bytes | memoryview] = deque()
        self._drained: list[asyncio.Future[None]] = []
        self._blocked = self._scheduled = self._paused = self._eof = False
        self._closing = False
        self._linger = _Linger.NO
        self.buffered = 0
        """Bytes written but not yet taken by the kernel."""
        self.sent = 0
        """Bytes that the kernel took since the start: shows whether a slow peer moves at all."""
        self.closed = False

    @property
    def closing(self) -> bool:
        return self._closing or self.closed

    def start(self) -> None:
        """Shake hands if this is TLS, then report `connected` and read."""
        if self.tls:
            self._on_readable(self._handshake)
            self._handshake()
        else:
            self._begin()

    def adopt(self, receiver: Receiver) -> None:
        """Report to `receiver` from now on, and read."""
        self._receiver = receiver
        self.resume_reading()

    def _begin(self) -> None:
        if not self._paused:
            self._on_readable(self._readable)
        self._receiver.connected()

    def _handshake(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.remove_writer(self._fd)
        except ssl.SSLWantWriteError:
            self._on_writable(self._handshake)
        except (OSError, ValueError) as error:
            self._lose(error if isinstance(error, OSError) else ConnectionError(str(error)))
        else:
            self._loop.remove_writer(self._fd)
            self._begin()

    def _on_readable(self, call: Callable[[], None]) -> None:
        self._watch(self._loop.add_reader, self._loop.remove_reader, call)

    def _on_writable(self, call: Callable[[], None]) -> None:
        self._watch(self._loop.add_writer, self._loop.remove_writer, call)

    def _watch(self, add: Callable[..., None], remove: Callable[[int], bool], call: Callable[[], None]) -> None:
        try:
            add(self._fd, call)
        except RuntimeError:
            # uvloop gives up a socket that had an error (a reset), keeps the handle, and refuses it from then on.
            # Forgotten and asked anew it tells us of the error, which then ends the connection.
            remove(self._fd)
            add(self._fd, call)

    # Reading

    def _readable(self) -> None:
        try:
            data = self._sock.recv(TLS_READ if self.tls else PLAIN_READ)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            self._block()
            return
        except OSError as error:
            self._lose(error)
            return
        if self._closing:
            if not data:
                self._lose(None)
        elif data:
            self._scheduled = True  # what is written meanwhile leaves by the flush below
            try:
                self._receiver.received(data)
            finally:
                self._scheduled = False
            if self._out:
                self.flush()
        else:
            self._eof = True
            self._loop.remove_reader(self._fd)
            self._receiver.ended()

    def pause_reading(self) -> None:
        """Leave what comes in the kernel's buffer: the peer is slowed down. Its leaving goes unnoticed too."""
        if not self._paused and not self.closed:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            if not self._eof:
                self._on_readable(self._readable)

    # Writing

    def write(self, data: bytes | memoryview) -> None:
        """Queue `data`; it leaves with all else that is written in this turn of the loop, or at `flush`."""
        if self.closing or not data:
            return
        self._out.append(data)
        self.buffered += len(data)
        if self.buffered > HIGH_WATER:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_later)

    def send(self, data: bytes) -> None:
        """Write and flush."""
        if self.closing or not data:
            return
        self._out.append(data)
        self.buffered += len(data)
        self.flush()

    def _flush_later(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Give the kernel as much as it takes now; the rest follows when it has room."""
        if self._blocked or self.closed:
            return
        out = self._out
        try:
            while out:
                piece = out[0] if len(out) == 1 else self._gather()
                count = self._sock.send(piece)
                self.sent += count
                self.buffered -= count
                if count == len(piece):
                    out.popleft()
                else:
                    out[0] = memoryview(piece)[count:]
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
            self._block()
        except ssl.SSLWantReadError:
            pass  # renegotiation: the next readable event tries again
        except OSError as error:
            out.clear()
            self._loop.call_soon(self._lose, error)
        if self._drained and self.buffered <= LOW_WATER:
            self._wake()
        if self._closing and not out:
            self._finish()

    def _gather(self) -> bytes | memoryview:
        """The head of the queue with the small pieces after it in one piece. After a refused TLS write OpenSSL wants
        the same bytes again, more may follow: so the joined piece stays at the head."""
        out = self._out
        head = out.popleft()
        size = len(head)
        if size < GATHER:
            pieces = [head]
            while out and size < GATHER:
                piece = out.popleft()
                room = GATHER - size
                if len(piece) > room:
                    view = memoryview(piece)
                    out.appendleft(view[room:])
                    piece = view[:room]
                pieces.append(piece)
                size += len(piece)
            head = b"".join(pieces)
        out.appendleft(head)
        return head

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._on_writable(self._writable)

    def _writable(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._fd)
        self.flush()

    async def drain(self) -> None:
        """Wait until the queue is short. Raises ConnectionError when the peer has gone."""
        waiter = self.drained()
        if waiter is not None:
            await waiter
        if self.closed and not self._closing:
            raise ConnectionResetError("the peer closed the connection")

    def drained(self) -> asyncio.Future[None] | None:
        """For who cannot wait: done when the queue is short again or the connection over; None when it is short."""
        if self.buffered > HIGH_WATER:
            self.flush()
        if self.buffered <= HIGH_WATER or self.closed:
            return None
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._drained.append(waiter)
        return waiter

    def _wake(self) -> None:
        waiters, self._drained = self._drained, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def write_eof(self) -> None:
        """Half-close, after what is queued. TLS cannot (in OpenSSL's socket interface): there it does nothing."""
        if not self.tls and not self.closing:
            self.flush()
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    # The end

    def close(self, *, linger: bool = False) -> None:
        """Send what is queued, then close. `linger` first reads and drops what the peer is still sending, so that
        the kernel does not answer it by a reset that overtakes our last words."""
        if self.closing:
            return
        self._closing = True
        if linger and not self._eof:
            self._linger = _Linger.ASKED
            self._on_readable(self._readable)
        else:
            self._loop.remove_reader(self._fd)
        self.flush()
        if not self.closed:
            self._loop.call_later(PATIENCE, self._lose_patience, self.sent)

    def _lose_patience(self, sent: int) -> None:
        if self.sent == sent:
            self._lose(None)
        else:
            self._loop.call_later(PATIENCE, self._lose_patience, self.sent)

    def _finish(self) -> None:
        if self._linger is _Linger.WAITING:
            return
        sock = self._sock
        if isinstance(sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                sock.unwrap()
        if self._linger is _Linger.ASKED:
            self._linger = _Linger.WAITING
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_WR)
        else:
            self._lose(None)

    def abort(self) -> None:
        """Close now and drop what is queued."""
        self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._out.clear()
        self.buffered = 0
        self._sock.close()
        self._wake()
        receiver, self._receiver = self._receiver, _NOBODY
        receiver.lost(error)

    # What TLS knows

    def peer_certificate(self) -> bytes | None:
        """The peer's verified certificate in DER."""
        if not isinstance(self._sock, ssl.SSLSocket) or isinstance(self._sock.context, RequestingContext):
            return None
        return self._sock.getpeercert(binary_form=True)

    def peer_presented(self) -> tuple[bytes, ...]:
        """The certificates that the peer sent where nobody verified them yet."""
        if not isinstance(self._sock, ssl.SSLSocket) or not isinstance(self._sock.context, RequestingContext):
            return ()
        return presented(self._sock)

    def peer_address(self) -> tuple[str, int]:
        """Address and port; ("", 0) on a unix socket."""
        try:
            name = self._sock.getpeername()
        except OSError:
            return "", 0
        return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)
