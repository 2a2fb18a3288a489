"""One callable shape for everything HTTP: `Handler` takes a Request and returns a Response.

The API server's endpoints, each link of its handler chain, the kubelet's node API, the Docker engine and the
tests' registries are all Handlers; a chain is built by functions that take a Handler and return one. The
transport (`server.py`) turns sockets into Requests; `client.local` calls a Handler without any socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs

from tiphys.base.identity import User

Headers = dict[str, str]
"""Header fields; names in lower case on requests, as written on responses. A repeated field is joined by ', '."""


class Duplex(Protocol):
    """A raw two-way byte stream: what is left of a connection after an upgrade, or a plain socket."""

    async def read(self, limit: int = 65536) -> bytes:
        """Up to `limit` bytes; b"" at the end of the stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand over `data`; waits while the peer is slow. Raises ConnectionError when it has gone."""
        ...

    async def close(self) -> None: ...

    async def write_eof(self) -> None:
        """No more will be written; reading goes on (half-close where the transport can)."""
        ...


@dataclass(slots=True)
class Peer:
    """The other end of a connection."""

    address: str = ""
    port: int = 0
    certificate: bytes | None = None
    """The client certificate in DER, verified by the transport against its client CA; None without one."""
    presented: tuple[bytes, ...] = ()
    """Certificates in DER that the client sent, its own first, which nobody has verified yet (`base.tls_request`)."""


@dataclass(slots=True)
class Request:
    """One HTTP request, its body read whole (the transport enforces the size limit: 413)."""

    method: str
    path: str
    """Percent-decoded path, without the query."""
    query_string: str = ""
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    peer: Peer = field(default_factory=Peer)
    raw_path: str = ""
    """The path as it came, for proxies."""
    user: User | None = None
    """Set by authentication, or beforehand by a local client."""
    obj: Any = None
    """The decoded body when a local client hands it over; the receiver owns it."""
    local: bool = False
    """From inside this process: answer with `Response.obj` / `Response.events`, nothing needs encoding."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """What links of a chain tell those after them (request info, audit annotations ...)."""
    repeated: Mapping[str, list[str]] = field(default_factory=dict)
    """The values one by one of fields that came more than once."""
    _query: dict[str, list[str]] | None = None
    connection_lost: Callable[[], bool] = lambda: False

    @property
    def query(self) -> dict[str, list[str]]:
        """The parsed query string; blank values are kept."""
        if self._query is None:
            self._query = parse_qs(self.query_string, keep_blank_values=True)
        return self._query

    def values(self, name: str) -> list[str]:
        """The values of a header field (its name in lower case) as they came: a value may have commas in it."""
        if name in self.repeated:
            return self.repeated[name]
        return [self.headers[name]] if name in self.headers else []

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default


def is_websocket(request: Request) -> bool:
    """Whether the request offers a WebSocket (`base.http.websocket` can then accept it)."""
    headers = request.headers
    return headers.get("upgrade", "").lower() == "websocket" and "upgrade" in headers.get("connection", "").lower()


Upgrade = Callable[[Duplex], Awaitable[None]]
"""Owns the connection after the response's head (101) has gone out; returns when the conversation is over."""


@dataclass(slots=True)
class Response:
    """One HTTP response: a whole body, a stream of chunks, or an upgrade; for local callers, objects."""

    status: int = 200
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    """Chunks, sent as they come (chunked transfer coding). Closed when the client goes away."""
    upgrade: Upgrade | None = None
    obj: Any = None
    """The decoded answer for a local caller. Shared: never change it."""
    events: AsyncIterator[Mapping[str, Any]] | None = None
    """Decoded watch events {"type", "object"} for a local caller. Shared: never change them."""


Handler = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Handler], Handler]
