"""A client's connection: requests in, one after the other, each handed to an exchange or answered here.

What a client sends before its turn waits; a client that owes bytes for too long is cut.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

from tiphys.base.http.wire import Wire
from tiphys.gateway.decide import Answer, Check, Way, decide
from tiphys.gateway.proxy import forwarding, framing, heads
from tiphys.gateway.proxy.exchange import Exchange
from tiphys.gateway.proxy.forwarding import Client
from tiphys.gateway.proxy.framing import Body
from tiphys.gateway.proxy.heads import Malformed, RequestHead, connection_options
from tiphys.gateway.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from tiphys.gateway.proxy.fronts import Front
    from tiphys.gateway.proxy.server import Proxy

log = logging.getLogger(__name__)

BACKLOG = 65536
"""Bytes read ahead of the request that is being served."""
STUCK = 60.0
"""Seconds that a client may take nothing of what waits for it."""


class Phase(Enum):
    """What is waited for, and for how many seconds."""

    HANDSHAKE = 10.0
    IDLE = 75.0
    HEAD = 30.0
    BODY = 60.0
    """Without any progress."""
    BUSY = 0.0


class ClientSide:
    """Receiver of its wire."""

    def __init__(self, proxy: Proxy, front: Front) -> None:
        self.proxy = proxy
        self.front = front
        self.wire: Wire
        self.who = Client("", 0, False)
        self.keeps_alive = True
        self._buffer = b""
        self._busy = False
        self._exchange: Exchange | None = None
        self._body: Body | None = None
        """Of the request that is being served, while it comes."""
        self._tunnel: Tunnel | None = None
        self._phase = Phase.HANDSHAKE
        self._waited = self._stuck = 0.0
        self._sent = 0
        self._started_at = 0.0

    # Reports of the wire

    def connected(self) -> None:
        self.who = Client(plain_address(self.wire.peer_address()[0]), self.front.port, self.front.tls)
        self._enter(Phase.IDLE)

    def received(self, data: bytes) -> None:
        try:
            self._received(data)
        except Exception:  # one request must not take its connection into a state that nobody knows
            log.exception("a request failed, its connection is closed")
            self._drop()

    def _received(self, data: bytes) -> None:
        self._waited = 0.0 if self._phase is Phase.BODY else self._waited
        if self._body is not None and self._exchange is not None:
            self._feed_body(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._serve()
        elif len(self._buffer) > BACKLOG:
            self.pause()

    def ended(self) -> None:
        """Who sends no more takes no answer either: what runs for nobody is given up, as nginx does."""
        self._drop()

    def lost(self, error: OSError | None) -> None:
        self._drop()
        self.proxy.forget(self)

    def _drop(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        self.wire.abort()

    # Requests

    def _serve(self) -> None:
        """Read requests until one takes its time."""
        while self._buffer and not self._busy and not self.wire.closing:
            if self._buffer[:1] in b"\r\n":  # empty lines before a request are forgiven (RFC 9112, 2.2)
                self._buffer = self._buffer.lstrip(b"\r\n")
                continue
            end = self._buffer.find(heads.END)
            if end < 0 or end > heads.MAX_HEAD:
                if len(self._buffer) > heads.MAX_HEAD:
                    self._refuse(Malformed("the request's head is too long", 431))
                elif b"\n\n" in self._buffer:
                    self._refuse(Malformed("malformed head: a line feed alone"))
                break
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            try:
                self._begin(heads.parse_request(head))
            except Malformed as error:
                self._refuse(error)
        if not self._busy and not self.wire.closing:
            self._enter(Phase.HEAD if self._buffer else Phase.IDLE)
            self.resume()

    def _begin(self, head: RequestHead) -> None:
        body, length = framing.request_body(head)
        options = connection_options(head.headers)
        self.keeps_alive = "close" not in options and (head.minor == 1 or "keep-alive" in options)
        self._body = body
        self._started_at = self.proxy.loop.time()
        if head.headers.get("expect", "100-continue").lower() != "100-continue":
            self._answer(head, Answer(417, "only 100-continue can be expected"))
            return
        self._decide(head, length)

    def _decide(self, head: RequestHead, length: int | None) -> None:
        decision = decide(self.front.tables, head, self.who, self.proxy.world, length)
        if isinstance(decision, Answer):
            self._answer(head, decision)
        elif isinstance(decision, Check):
            self._busy = True
            self._enter(Phase.BUSY)
            self.proxy.spawn(self._check(decision, head, length))
        else:
            self._forward(head, decision, length)

    async def _check(self, check: Check, head: RequestHead, length: int | None) -> None:
        await self.proxy.check(check)
        if self.wire.closing:
            return
        self._busy = False
        try:
            self._decide(head, length)
        except Malformed as error:
            self._refuse(error)
        if not self._busy:
            self._serve()

    def _forward(self, head: RequestHead, way: Way, length: int | None) -> None:
        request_id = head.headers.get("x-request-id") or f"{random.getrandbits(128):032x}"
        body = self._body
        chunked = body is not None and length is None
        exchange = Exchange(self, head, way, request_id, length=length, chunked=chunked)
        self._exchange, self._busy = exchange, True
        if way.mirrors:
            self.proxy.mirror(way, head, self.who, request_id)
        self._enter(Phase.BUSY if body is None else Phase.BODY)
        data, self._buffer = self._buffer, b""
        if body is None:
            self._buffer = data
            exchange.body(b"", True)
        elif data:
            self._feed_body(data)
        if self._exchange is exchange:
            exchange.begin()

    def _feed_body(self, data: bytes) -> None:
        assert self._body is not None
        assert self._exchange is not None
        try:
            payload, rest = self._body.feed(data)
        except Malformed as error:
            exchange, self._exchange = self._exchange, None
            exchange.abandon()
            self._refuse(error)
            return
        if rest is not None:
            self._body = None
            self._buffer = rest
            self._enter(Phase.BUSY)
        self._exchange.body(payload, rest is not None)

    # Answers

    def _answer(self, head: RequestHead, answer: Answer) -> None:
        """Ours. A body that has not come whole is not waited for: the connection ends."""
        if self._body is not None:
            try:
                _, rest = self._body.feed(self._buffer)
            except Malformed:
                rest = None
            self._buffer = rest or b""
            if rest is None:
                self.keeps_alive = False
            self._body = None
        text = f"{answer.status} {forwarding.phrase(answer.status)}: {answer.message}\n" if answer.message else ""
        self._put(answer.status, answer.fields, text.encode(), bodiless=head.method == "HEAD")
        self.proxy.log_answer(self, head, answer.status, self._started_at)

    def _put(self, status: int, fields: Iterable[tuple[str, str]], body: bytes, *, bodiless: bool = False) -> None:
        typed = (*fields, ("Content-Type", "text/plain; charset=utf-8")) if body else tuple(fields)
        self.wire.send(forwarding.answer(status, typed, body, close=not self.keeps_alive, bodiless=bodiless))
        if not self.keeps_alive:
            self.wire.close(linger=True)

    def _refuse(self, error: Malformed) -> None:
        self.keeps_alive = False
        self._buffer = b""
        self._put(error.status, (), f"{error.status} {forwarding.phrase(error.status)}: {error}\n".encode())

    def fail(self, exchange: Exchange, status: int, message: str, *, whole: bool) -> None:
        """The exchange has no answer; this is told instead."""
        self._exchange = None
        self.keeps_alive = self.keeps_alive and whole
        body = f"{status} {forwarding.phrase(status)}: {message}\n".encode()
        self._put(status, (), body, bodiless=exchange.method == "HEAD")
        self.proxy.log_exchange(self, exchange, self._started_at)
        self._next()

    def answered(self, exchange: Exchange) -> None:
        """The backend's answer has gone out whole."""
        self._exchange = None
        self.proxy.log_exchange(self, exchange, self._started_at)
        if not self.keeps_alive:
            self.wire.close(linger=self._body is not None)
            return
        self._next()

    def _next(self) -> None:
        self._busy = False
        self._body = None
        self.resume()
        if self._buffer:
            self._serve()
        elif not self.wire.closing:
            self._enter(Phase.IDLE)

    # Upgrades

    def tunnelled(self, tunnel: Tunnel, from_backend: bytes) -> None:
        exchange, self._exchange = self._exchange, None
        self._tunnel = tunnel
        early, self._buffer = self._buffer, b""
        self._enter(Phase.BUSY)
        if exchange is not None:
            self.proxy.log_exchange(self, exchange, self._started_at)
        tunnel.start(early, from_backend)

    def tunnel_over(self) -> None:
        self.proxy.forget(self)

    # Flow and time

    def pause(self) -> None:
        self.wire.pause_reading()

    def resume(self) -> None:
        if len(self._buffer) <= BACKLOG:
            self.wire.resume_reading()

    def _enter(self, phase: Phase) -> None:
        if phase is not self._phase or phase is not Phase.HEAD:
            self._phase = phase
            self._waited = 0.0

    def tick(self, seconds: float) -> None:
        """So much time has passed: cut a client that owes us something for too long."""
        wire = self.wire
        moves = not wire.buffered or wire.sent != self._sent
        self._sent = wire.sent
        self._stuck = 0.0 if moves else self._stuck + seconds
        self._waited += seconds
        if self._stuck >= STUCK and self._tunnel is None:
            self._drop()
            return
        if self._exchange is not None:
            self._exchange.tick(seconds)
        limit = self._phase.value
        if not limit or self._waited < limit or wire.closing:
            return
        if self._phase in (Phase.HEAD, Phase.BODY):
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.abandon()
                if exchange.started:
                    wire.abort()
                    return
            self._refuse(Malformed("the request took too long to arrive", 408))
        else:
            wire.close()

    def drain(self) -> None:
        """Finish the request that is being served, then end; tunnels end now."""
        self.keeps_alive = False
        if self._tunnel is not None:
            self._tunnel.side_over()
        elif not self._busy:
            self.wire.close()


def plain_address(address: str) -> str:
    """An IPv4 address as itself, where an IPv6 socket shows it mapped."""
    return address.removeprefix("::ffff:")
