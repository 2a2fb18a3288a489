"""One request on its way: from the client's connection to a backend's, and the answer back.

Nothing here waits: the two connections call, and whoever is faster than the other is paused. A backend that cannot be
reached is replaced by the next one; one that closed a kept connection before it read the request is asked anew, if
asking twice does no harm. Once a byte of an answer has gone to the client, only cutting tells it that there is no more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from tiphys.base.http.wire import HIGH_WATER
from tiphys.gateway.decide import Way
from tiphys.gateway.proxy import forwarding, framing, heads
from tiphys.gateway.proxy.framing import Body, ChunkedBody, OpenBody
from tiphys.gateway.proxy.heads import Malformed, RequestHead, ResponseHead, connection_options
from tiphys.gateway.proxy.tunnel import Tunnel
from tiphys.gateway.proxy.upstream import Upstream, connected

if TYPE_CHECKING:
    from tiphys.gateway.proxy.clientside import ClientSide

log = logging.getLogger(__name__)

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_WAITING = 65536
"""Bytes of a request that wait for a connection before its client is paused."""
_REPLAYED = 65536
"""Bytes of a request that are kept to be sent again."""
_TRIES = 3
"""Endpoints that are tried."""


class Exchange:
    """See the module's docstring."""

    def __init__(
        self, client: ClientSide, head: RequestHead, way: Way, request_id: str, *, length: int | None, chunked: bool
    ) -> None:
        self._client = client
        self._head = head
        self._way = way
        self._chunked = chunked
        offered = head.headers.get("upgrade", "").lower()
        self._upgrade = bool(offered) and offered != "h2c" and "upgrade" in connection_options(head.headers)
        self._length = length
        first = forwarding.request_head(
            head,
            client.who,
            target=way.path,
            host=way.host,
            request_id=request_id,
            length=length,
            chunked=chunked,
            upgrade=self._upgrade,
            changes=way.filters.request,
        )
        self._pending: list[bytes] = [first]
        """What waits for a connection."""
        self._pending_size = 0
        self._received = 0
        self._replay: bytes | None = None
        self._whole = False
        """Whether all of the request has come."""
        self._endpoints = list(way.endpoints)
        self._tries = 0
        self._backend: Upstream | None = None
        self._answer = b""
        self._body: Body | None = None
        self._encode = False
        self._started = False
        """Whether the client has got a part of the final answer."""
        self._close = False
        self._over = False
        self._quiet = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.status = 0
        self.sent = 0
        """Bytes of the answer's body."""
        if way.policy.request_timeout or way.policy.backend_timeout:
            limits = [each for each in (way.policy.request_timeout, way.policy.backend_timeout) if each]
            self._timer = client.proxy.loop.call_later(min(limits), self._too_late)

    @property
    def way(self) -> Way:
        return self._way

    @property
    def head(self) -> RequestHead:
        return self._head

    @property
    def method(self) -> str:
        return self._head.method

    @property
    def started(self) -> bool:
        """Whether the client has got a part of the final answer."""
        return self._started

    # From the client

    def begin(self) -> None:
        """Find a connection; one that waits takes the request at once."""
        policy = self._way.policy
        idle = self._endpoints[0].take(self._way.target.tls) if self._endpoints else None
        if idle is not None:
            self._go(cast(Upstream, idle))
        else:
            self._client.proxy.spawn(self._connect(policy.connect_timeout))

    async def _connect(self, timeout: float) -> None:
        status, proxy = 502, self._client.proxy
        tls = proxy.backend_tls() if self._way.target.tls else None
        while self._endpoints and self._tries < _TRIES and not self._over:
            endpoint = self._endpoints.pop(0)
            self._tries += 1
            try:
                backend = await connected(endpoint, tls, heads.hostname(self._way.host), timeout)
            except OSError as error:
                status = 504 if isinstance(error, TimeoutError) else 502
                log.info("%s: %s of %s: %s", self._way.route.source, endpoint.address, self._way.host, error)
                continue
            if self._over:
                endpoint.put_back(backend, self._way.target.tls)
            else:
                self._go(backend)
            return
        if not self._over:
            self._fail(status, "no endpoint of the backend can be reached")

    def _go(self, backend: Upstream) -> None:
        """Send what has come so far."""
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        if self._replay is None and self._whole and len(data) <= _REPLAYED:
            self._replay = data
        self._pending = []
        self._pending_size = 0
        self._answer = b""
        self._backend = backend
        self._quiet = 0.0
        backend.ask(self, data)
        self._client.resume()

    def body(self, payload: bytes, whole: bool) -> None:
        """More of the request's body; `whole` with its end."""
        self._received += len(payload)
        self._whole = whole
        limit = self._way.policy.max_body
        if limit and self._received > limit:
            self._fail(413, f"the body is larger than {limit} bytes")
            return
        if self._chunked:
            payload = framing.chunk(payload) if payload else b""
            payload += framing.LAST_CHUNK if whole else b""
        if not payload or self._over:
            return
        backend = self._backend
        if backend is None:
            self._pending.append(payload)
            self._pending_size += len(payload)
            if self._pending_size > _WAITING:
                self._client.pause()
            return
        self._quiet = 0.0
        self._replay = None
        backend.wire.send(payload)
        if backend.wire.buffered > HIGH_WATER and (waiter := backend.wire.drained()) is not None:
            self._client.pause()
            waiter.add_done_callback(self._go_on)

    def _go_on(self, drained: asyncio.Future[None]) -> None:
        if not self._over:
            self._client.resume()

    def abandon(self) -> None:
        """The client has gone."""
        self._end()
        if self._backend is not None:
            self._backend.abort()

    # From the backend

    def from_backend(self, data: bytes) -> None:
        self._quiet = 0.0
        try:
            if self._started:
                self._relay(data)
            else:
                self._answer = self._answer + data if self._answer else data
                self._read_head()
        except Malformed as error:
            log.warning("%s: the backend's answer is refused: %s", self._way.route.source, error)
            self._fail(502, "the backend's answer is malformed")

    def _read_head(self) -> None:
        while not self._over and not self._started:
            end = self._answer.find(heads.END)
            if max(end, len(self._answer) if end < 0 else 0) > heads.MAX_HEAD:
                raise Malformed("the head is too long")
            if end < 0:
                return
            head = heads.parse_response(self._answer[:end])
            self._answer = self._answer[end + 4 :]
            if head.status == 101:
                self._switch(head)
                return
            if head.status >= 200:
                self._begin_answer(head)
                return
            if self._head.minor:
                self._client.wire.send(forwarding.interim_head(head))

    def _begin_answer(self, head: ResponseHead) -> None:
        body, length = framing.response_body(head, self._head.method)
        way, client = self._way, self._client
        unframed = isinstance(body, ChunkedBody | OpenBody)
        self._encode = unframed and self._head.minor == 1
        self._close = not head.minor or "close" in connection_options(head.headers)
        ends = not client.keeps_alive or not self._whole or (unframed and not self._encode)
        client.keeps_alive = not ends
        self.status = head.status
        out = forwarding.response_head(
            head,
            length=length,
            chunked=self._encode,
            close=ends,
            changes=way.filters.response,
            extra=(*way.extra, "Connection: keep-alive") if not self._head.minor and not ends else way.extra,
        )
        self._started = True
        rest, self._answer = self._answer, b""
        if body is None:
            client.wire.send(out)
            self._finish(clean=not rest)
            return
        self._body = body
        self._relay(rest, out)

    def _relay(self, data: bytes, before: bytes = b"") -> None:
        """Pass on a piece of the answer's body."""
        assert self._body is not None
        payload, rest = self._body.feed(data)
        self.sent += len(payload)
        wire = self._client.wire
        out = before
        if payload:
            out += framing.chunk(payload) if self._encode else payload
        if rest is not None and self._encode:
            out += framing.LAST_CHUNK
        wire.send(out)
        if rest is not None:
            self._finish(clean=not rest)
        elif wire.buffered > HIGH_WATER and (waiter := wire.drained()) is not None:
            backend = self._backend
            assert backend is not None
            backend.wire.pause_reading()
            waiter.add_done_callback(lambda _: backend.wire.resume_reading())

    def backend_ended(self) -> None:
        backend = self._backend
        assert backend is not None
        if isinstance(self._body, OpenBody) and self._started:
            if self._encode:
                self._client.wire.send(framing.LAST_CHUNK)
            self._finish(clean=False)
        else:
            backend.wire.abort()

    def backend_lost(self) -> None:
        backend, self._backend = self._backend, None
        if self._over or backend is None:
            return
        harmless = self._head.method in _IDEMPOTENT
        if backend.reused and not backend.answered and self._replay is not None and harmless and not self._started:
            self._pending = [self._replay]
            self.begin()
        else:
            self._fail(502, "the backend closed the connection")

    # The end

    def _switch(self, head: ResponseHead) -> None:
        backend, client = self._backend, self._client
        if not self._upgrade or backend is None or "upgrade" not in head.headers:
            raise Malformed("it changes the protocol, which nobody asked for")
        self._end()
        self.status = 101
        backend.user = None
        client.wire.send(forwarding.switching_head(head))
        tunnel = Tunnel(client.wire, backend.wire, client.tunnel_over)
        client.tunnelled(tunnel, self._answer)

    def _finish(self, *, clean: bool) -> None:
        """The answer is whole."""
        backend = self._backend
        self._end()
        if backend is not None:
            self._backend = None
            if clean and self._whole and not self._close and not backend.wire.buffered:
                backend.release()
            else:
                backend.abort()
        self._client.answered(self)

    def _fail(self, status: int, message: str) -> None:
        if self._over:
            return
        backend, self._backend = self._backend, None
        self._end()
        self.status = status
        if backend is not None:
            backend.abort()
        if self._started:
            self._client.wire.abort()
        else:
            self._client.fail(self, status, message, whole=self._whole)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def _too_late(self) -> None:
        self._fail(504, "the backend took longer than the route's timeout")

    def tick(self, seconds: float) -> None:
        """So much time has passed."""
        limit = self._way.policy.read_timeout
        self._quiet += seconds
        if limit and self._quiet > limit and self._backend is not None and (self._whole or self._started):
            self._fail(504, f"the backend has sent nothing for {limit:.0f} s")
