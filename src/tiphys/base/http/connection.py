"""One connection of the server: requests in, one after the other; responses out.

A handler that never waits (most reads) is stepped where its request was parsed: no task is made, no turn of the loop
passes. One that does wait is carried on by the connection's own task, which is its current task from the first step
on, so `asyncio.timeout` and `TaskGroup` work in it. The same task sends streams and runs upgrades. It is cancelled
when the client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import types
from asyncio.tasks import _enter_task, _leave_task  # "Extending asyncio": the public way to name the current task
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tiphys.base.http import encode
from tiphys.base.http.duplex import WireDuplex
from tiphys.base.http.parse import Exchange, RequestReader
from tiphys.base.http.types import Handler, Peer, Request, Response
from tiphys.base.http.wire import HIGH_WATER, Wire

_log = logging.getLogger(__name__)

BACKLOG = 65536
"""Bytes kept of requests that come while an earlier one is served; then the client is slowed down."""
ONE_PIECE = 32768
"""Bodies up to this size are sent in one piece with their head."""


class Phase(Enum):
    """What a connection is waiting for; the value is how many seconds the client may take for it."""

    HANDSHAKE = 15
    IDLE = 120
    HEAD = 15
    BODY = 60
    BUSY = 0
    """A handler works, or a stream or an upgrade goes on: only a peer that takes nothing is cut."""


STUCK = 60
"""Seconds after which a peer that takes none of the waiting bytes is cut."""


@dataclass(slots=True)
class _Job:
    """What the sync step leaves to the task: a suspended handler, a response that takes its time, or (neither) to
    wait until the client has taken what it asked for."""

    exchange: Exchange
    call: Coroutine[Any, Any, Response] | None = None
    pending: Any = None
    """The future that `call` waits for."""
    response: Response | None = None


class ServerConnection:
    """See the module's docstring. `run` is its task; `connected` ... `lost` are the Wire's reports."""

    def __init__(self, handler: Handler, max_body: int, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._loop = loop
        self._reader = RequestReader(max_body)
        self._wire: Wire
        self._task: asyncio.Task[None]
        self._context = contextvars.copy_context()
        self._job: _Job | None = None
        self._wake: asyncio.Future[None] = loop.create_future()
        self._busy = False
        self._long = False
        self._draining = False
        self._gone = False
        self._duplex: WireDuplex | None = None
        self._backlog: deque[bytes] = deque()
        self._phase = Phase.HANDSHAKE
        self._waited = self._stuck = 0.0
        self._sent = 0
        self.backed_up: Callable[[ServerConnection], None] | None = None
        """Called when much of an answer has to wait for the client."""

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client."""
        return self._wire.buffered

    def bind(self, wire: Wire, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Take over `wire` (not started yet) and start the task."""
        self._wire = wire
        self._task = group.create_task(self.run(), name="http connection", context=self._context)
        return self._task

    # Reports of the wire

    def connected(self) -> None:
        address, port = self._wire.peer_address()
        self._reader.peer = Peer(address, port, self._wire.peer_certificate(), self._wire.peer_presented())
        self._enter(Phase.IDLE)

    def received(self, data: bytes) -> None:
        if self._duplex is not None:
            self._duplex.received(data)
        elif self._busy:
            self._backlog.append(data)
            if sum(map(len, self._backlog)) > BACKLOG:
                self._wire.pause_reading()
        else:
            self._reader.feed(data)
            self._serve()

    def ended(self) -> None:
        if self._duplex is not None:
            self._duplex.ended()
        elif self._busy:
            self._wire.abort()
        else:
            self._wire.close()

    def lost(self, error: OSError | None) -> None:
        self._gone = True
        if self._duplex is not None:
            self._duplex.lost(error)
        if self._duplex is None or not self._long:
            self._task.cancel()

    # Serving without waiting

    def _serve(self) -> None:
        """Answer what was parsed, until something takes its time."""
        reader = self._reader
        while reader.ready and not self._wire.closing:
            if not self._step(reader.ready.popleft()):
                self._busy = True
                self._enter(Phase.BUSY)
                return
            if reader.rest is not None and not reader.ready:
                reader.decline_upgrade()
        self._after_requests()

    def _after_requests(self) -> None:
        reader = self._reader
        if self._wire.closing:
            return
        if reader.refused is not None:
            refusal = reader.refused
            self._write(encode.plain(refusal.status, refusal.message), "1.1", keep_alive=False)
            self._wire.close(linger=True)
        elif self._draining:
            self._wire.close()
        else:
            if reader.wants_continue:
                reader.wants_continue = False
                self._wire.write(encode.CONTINUE)
            self._enter(Phase.BODY if reader.in_body else Phase.HEAD if reader.started else Phase.IDLE)

    def _step(self, exchange: Exchange) -> bool:
        """Start the handler; False when the task has to go on with it."""
        request = exchange.request
        request.connection_lost = self._is_lost
        _enter_task(self._loop, self._task)
        try:
            call: Coroutine[Any, Any, Response] = self._handler(request)  # type: ignore[assignment]
            pending = self._context.run(call.send, None)
        except StopIteration as done:
            response: Response = done.value
        except Exception as error:  # noqa: BLE001 - the boundary: logged there
            response = self._failed(request, error)
        except asyncio.CancelledError:
            self._wire.abort()
            return True
        else:
            self._hand_over(_Job(exchange, call, pending))
            return False
        finally:
            _leave_task(self._loop, self._task)
        if response.stream is not None or response.upgrade is not None:
            self._hand_over(_Job(exchange, response=response))
            return False
        self._answer(exchange, response)
        if self._wire.buffered > HIGH_WATER:  # a client that asks faster than it takes
            self._hand_over(_Job(exchange))
            return False
        return True

    def _hand_over(self, job: _Job) -> None:
        self._job = job
        if not self._wake.done():
            self._wake.set_result(None)

    def _failed(self, request: Request, error: Exception) -> Response:
        response = encode.failure(error)
        if response.status >= 500:
            _log.error("%s %s failed", request.method, request.path, exc_info=error)
        return response

    def _is_lost(self) -> bool:
        return self._gone

    def _answer(self, exchange: Exchange, response: Response) -> None:
        keep_alive = exchange.keep_alive and not self._draining
        try:
            keep_alive = self._write(response, exchange.version, keep_alive, bodiless=exchange.request.method == "HEAD")
        except ValueError as error:
            keep_alive = self._write(self._failed(exchange.request, error), exchange.version, keep_alive)
        if not keep_alive:
            self._wire.close()

    def _write(self, response: Response, version: str, keep_alive: bool, *, bodiless: bool = False) -> bool:
        """Queue a whole response; returns whether the connection goes on."""
        headers, body = response.headers, response.body
        if headers.get("Connection", "").lower() == "close":
            keep_alive = False
            framing = ""
        elif not keep_alive:
            framing = "connection: close\r\n"
        else:
            framing = "" if version == "1.1" else "connection: keep-alive\r\n"
        head = encode.head(response.status, headers, len(body), framing=framing)
        # The task answers one request at a time: nothing else will leave with it, and a turn of the loop is saved.
        put = self._wire.send if self._busy else self._wire.write
        if bodiless:
            put(head)
        elif len(body) <= ONE_PIECE:
            put(head + body)
        else:
            self._wire.write(head)
            put(body)
            if self._wire.buffered > HIGH_WATER and self.backed_up is not None:
                self.backed_up(self)
        return keep_alive

    # Serving with waiting

    async def run(self) -> None:
        """The connection's task: goes on with what the sync step could not finish, again and again."""
        try:
            while not self._wire.closed:
                interruption = None
                try:
                    await self._wake
                except asyncio.CancelledError as error:
                    if self._job is None:
                        raise
                    interruption = error
                self._wake = self._loop.create_future()
                job, self._job = self._job, None
                assert job is not None
                await self._carry_on(job, interruption)
                await self._serve_waiting()
        except OSError:
            self._wire.abort()
        except Exception:  # noqa: BLE001 - one connection must not take all others, and the server, with it
            _log.exception("a connection failed and is closed")
            self._wire.abort()
        finally:
            if self._job is not None and self._job.call is not None:
                self._job.call.close()
            if not self._wire.closing:
                self._wire.abort()

    async def _carry_on(self, job: _Job, interruption: BaseException | None) -> None:
        response = job.response
        if job.call is not None:
            try:
                response = await _resumed(job.call, job.pending, interruption)
            except Exception as error:  # noqa: BLE001 - the boundary: logged there
                response = self._failed(job.exchange.request, error)
        elif interruption is not None:
            await _close_stream(job.response.stream if job.response else None)
            raise interruption
        if response is not None:
            await self._respond(job.exchange, response)
        await self._wire.drain()

    async def _serve_waiting(self) -> None:
        """Requests that came in the meantime, then back to serving from `received`."""
        reader = self._reader
        while not self._wire.closing:
            if reader.ready:
                exchange = reader.ready.popleft()
                exchange.request.connection_lost = self._is_lost
                try:
                    response = await self._handler(exchange.request)
                except Exception as error:  # noqa: BLE001 - the boundary: logged there
                    response = self._failed(exchange.request, error)
                await self._respond(exchange, response)
                await self._wire.drain()
            elif reader.rest is not None:
                reader.decline_upgrade()
            elif self._backlog and reader.refused is None:
                reader.feed(self._backlog.popleft())
            else:
                break
        self._busy = False
        self._after_requests()
        self._wire.resume_reading()

    async def _respond(self, exchange: Exchange, response: Response) -> None:
        if response.upgrade is not None:
            await self._upgrade(response)
        elif response.stream is not None:
            await self._stream(exchange, response, response.stream)
        else:
            self._answer(exchange, response)

    async def _stream(self, exchange: Exchange, response: Response, stream: AsyncIterator[bytes]) -> None:
        wire = self._wire
        chunked = exchange.version == "1.1"
        keep_alive = exchange.keep_alive and chunked and not self._draining
        framing = "transfer-encoding: chunked\r\n" if chunked else ""
        framing += "" if keep_alive else "connection: close\r\n"
        self._long = True
        try:
            wire.write(encode.head(response.status, response.headers, None, framing=framing))
            if exchange.request.method != "HEAD":
                async for data in stream:
                    if data:
                        wire.write(encode.chunk(data) if chunked else data)
                        await wire.drain()
                if chunked:
                    wire.write(encode.LAST_CHUNK)
        except asyncio.CancelledError:
            if self._draining and chunked:  # an orderly end: a watcher asks again elsewhere, without an error
                wire.write(encode.LAST_CHUNK)
                wire.close()
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: the head is out, only cutting tells the client
            if not wire.closed:
                _log.error("stream of %s broke off", exchange.request.path, exc_info=error)
            wire.abort()
        finally:
            self._long = False
            await _close_stream(stream)
        if not keep_alive:
            wire.close()

    async def _upgrade(self, response: Response) -> None:
        assert response.upgrade is not None
        rest = self._reader.next_protocol() + b"".join(self._backlog)
        self._backlog.clear()
        self._duplex = WireDuplex(self._wire, self._loop, rest)
        self._wire.send(encode.head(response.status, response.headers, None))
        self._wire.resume_reading()
        self._long = True
        try:
            await response.upgrade(self._duplex)
        except Exception as error:  # noqa: BLE001 - the boundary
            if _is_network(error):
                _log.debug("upgraded connection ended: %s", error)
            else:
                _log.exception("upgraded connection failed")
        finally:
            self._long = False
            self._wire.close(linger=True)

    # Deadlines and draining

    def _enter(self, phase: Phase) -> None:
        if phase is not self._phase or phase is Phase.IDLE:
            self._phase = phase
            self._waited = 0.0

    def tick(self, seconds: float) -> None:
        """`seconds` have passed: cut a client that takes too long for what it owes us."""
        wire = self._wire
        self._waited += seconds
        moves = not wire.buffered or wire.sent != self._sent
        self._sent = wire.sent
        self._stuck = 0.0 if moves else self._stuck + seconds
        if self._stuck >= STUCK:
            wire.abort()
        elif self._phase.value and self._waited >= self._phase.value and not wire.closing:
            if self._phase in (Phase.HEAD, Phase.BODY):
                self._write(encode.plain(408, "the request took too long to arrive"), "1.1", keep_alive=False)
            wire.close(linger=self._phase is Phase.BODY)

    def forget(self) -> None:
        """The task is over: let go of what holds us in turn, so that nothing waits for the cycle collector."""
        self._reader.close()
        del self._task

    def abort(self) -> None:
        """Close now."""
        self._wire.abort()

    def drain(self) -> None:
        """Finish the request that is being served, then close. Streams and upgrades end now."""
        self._draining = True
        if self._long:
            self._task.cancel()
        elif not self._busy:
            self._wire.close()
        if self._wire.closing and not self._wire.buffered:
            self._wire.abort()


def _is_network(error: Exception) -> bool:
    """Whether nothing but the connection failed, perhaps for several tasks that use it."""
    return isinstance(error, OSError) or (isinstance(error, ExceptionGroup) and error.split(OSError)[1] is None)


async def _close_stream(stream: AsyncIterator[bytes] | None) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        with contextlib.suppress(RuntimeError):  # it is running: its own task ends it
            await close()


@types.coroutine
def _resumed(
    call: Coroutine[Any, Any, Response], pending: Any, interruption: BaseException | None
) -> Generator[Any, Any, Response]:
    """Go on with a coroutine that was stepped by hand and waits for the future `pending`."""
    try:
        if interruption is not None:
            pending = call.throw(interruption)
        while True:
            if pending is not None:
                pending._asyncio_future_blocking = True  # another task may have consumed the mark since
            try:
                yield pending
            except BaseException as error:  # noqa: BLE001 - handed on to the coroutine
                pending = call.throw(error)
            else:
                pending = call.send(None)
    except StopIteration as done:
        response: Response = done.value
        return response
