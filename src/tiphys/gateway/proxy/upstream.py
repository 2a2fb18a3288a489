"""A connection to an endpoint: one request at a time, kept for the next one."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Protocol

from tiphys.base.http.duplex import dial
from tiphys.base.http.wire import Wire
from tiphys.gateway.proxy.backends import Endpoint

log = logging.getLogger(__name__)


class User(Protocol):
    """Who has the connection: an exchange."""

    def from_backend(self, data: bytes) -> None: ...

    def backend_ended(self) -> None: ...

    def backend_lost(self) -> None: ...


class Upstream:
    """Receiver of its wire."""

    __slots__ = ("answered", "endpoint", "idle_for", "reused", "tls", "user", "wire")

    def __init__(self, wire: Wire, endpoint: Endpoint, tls: bool) -> None:
        self.wire = wire
        self.endpoint = endpoint
        self.tls = tls
        self.user: User | None = None
        self.reused = False
        self.answered = False
        """Whether anything of an answer to the present request has come."""
        self.idle_for = 0.0
        wire.adopt(self)

    @property
    def closed(self) -> bool:
        return self.wire.closing

    def ask(self, user: User, data: bytes) -> None:
        self.user = user
        self.answered = False
        self.wire.send(data)

    def release(self) -> None:
        """The answer is whole: the next request may come."""
        self.user = None
        self.reused = True
        self.wire.resume_reading()
        self.endpoint.put_back(self, self.tls)

    def abort(self) -> None:
        self.user = None
        self.wire.abort()

    def connected(self) -> None:
        """Part of `wire.Receiver`; the handshake was over before."""

    def received(self, data: bytes) -> None:
        self.answered = True
        if self.user is None:  # nobody asked
            self.wire.abort()
            return
        try:
            self.user.from_backend(data)
        except Exception:  # one answer must not take its connections into a state that nobody knows
            log.exception("an answer failed, its connection is closed")
            self.wire.abort()

    def ended(self) -> None:
        if self.user is None:
            self.wire.abort()
        else:
            self.user.backend_ended()

    def lost(self, error: OSError | None) -> None:
        user, self.user = self.user, None
        if user is not None:
            user.backend_lost()


async def connected(endpoint: Endpoint, tls: ssl.SSLContext | None, name: str, timeout: float) -> Upstream:
    """A new connection within `timeout` seconds. Raises OSError (TimeoutError)."""
    host, port = endpoint.address
    async with asyncio.timeout(timeout or None):
        wire = await dial(host, port, tls=tls, server_name=name)
    return Upstream(wire, endpoint, tls is not None)
