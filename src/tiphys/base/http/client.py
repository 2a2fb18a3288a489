"""The HTTP client: HTTP/1.1 over TCP (plain or TLS) or a unix socket, to one server, connections kept and reused.

    async with HttpClient("https://127.0.0.1:6443", tls=client_context(ca)) as client:
        answer = await client.request("GET", "/version")
        async with client.stream("GET", "/api/v1/pods?watch=1") as (status, headers, chunks): ...
        answer, duplex = await client.upgrade("POST", "/exec", {"Upgrade": "SPDY/3.1"})

Every method raises OSError for network trouble (TimeoutError when `timeout` seconds have passed, ConnectionError
when the server went away or spoke nonsense). Any status is an answer, not an error. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from tiphys.base.http.duplex import Opened, WireDuplex, dial
from tiphys.base.http.exchange import ClientConnection
from tiphys.base.http.types import Duplex, Headers

Fields = Mapping[str, str | tuple[str, ...]]
"""Header fields to send; a tuple is a field that comes several times."""
CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and TLS together."""
MAX_IDLE = 32
"""Connections kept without work."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A whole response; header names in lower case."""

    status: int
    headers: Headers
    body: bytes = b""


class Streamed(NamedTuple):
    """A response whose body is still coming."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


class HttpClient:
    """See the module's docstring. `headers` go with every request; `socket_path` connects to a unix socket;
    `outside` goes by the host's network (base/outside.py), `opened` makes connections itself."""

    def __init__(
        self,
        base_url: str,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        socket_path: str = "",
        server_name: str = "",
        outside: bool = False,
        opened: Opened | None = None,
    ) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{base_url!r} is not an http or https URL")
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._prefix = url.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if url.scheme == "https" else None
        self._server_name = server_name
        self._socket_path = socket_path
        self._outside = outside
        self._opened = opened
        self.headers: Headers = {"Host": url.netloc.rpartition("@")[2], **(headers or {})}
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
        self._dialing = asyncio.Lock()
        self._former: set[ClientConnection] = set()
        """Connections made before `renew`: they end with what they are doing."""
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; streams that are still read raise ConnectionError."""
        self._closed = True
        for connection in tuple(self._open):
            connection.abort()
        self._idle.clear()

    def renew(self, tls: ssl.SSLContext) -> None:
        """Speak by another TLS context from now on: no connection of the old one is used again."""
        self._tls = tls
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        self._former = set(self._open)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Fields | None = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> ClientResponse:
        """One request and its whole answer. `path` carries the query; `timeout` in seconds, None for no limit."""
        async with asyncio.timeout(timeout), self._exchange(method, path, headers, body) as connection:
            return ClientResponse(connection.status, connection.headers, await connection.whole_body())

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Fields | None = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncIterator[Streamed]:
        """One request; its body is read piece by piece inside the context. `timeout` is for the head only."""
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(timeout):
                connection = await stack.enter_async_context(self._exchange(method, path, headers, body))
            yield Streamed(connection.status, connection.headers, connection.chunks())

    async def upgrade(
        self,
        method: str,
        path: str,
        headers: Fields,
        *,
        body: bytes = b"",
        timeout: float | None = CONNECT_TIMEOUT * 3,
    ) -> tuple[ClientResponse, Duplex | None]:
        """Ask to leave HTTP (`headers` has Upgrade). The byte stream when the server answers 101, which the caller
        closes; None with the whole answer when it does not."""
        async with asyncio.timeout(timeout):
            connection = await self._connect()
            try:
                await self._send(connection, method, path, {"Connection": "Upgrade", **headers}, body)
                if connection.status != 101:
                    answer = await connection.whole_body()
                    connection.abort()
                    return ClientResponse(connection.status, connection.headers, answer), None
            except BaseException:
                connection.abort()
                raise
            self._open.discard(connection)
            wire, rest = connection.give_up()
            duplex = WireDuplex(wire, asyncio.get_running_loop(), rest)
            wire.adopt(duplex)
            return ClientResponse(101, connection.headers), duplex

    @contextlib.asynccontextmanager
    async def _exchange(
        self, method: str, path: str, headers: Fields | None, body: bytes
    ) -> AsyncIterator[ClientConnection]:
        """Send the request and wait for the head; afterwards the connection is kept, if all of the body was read."""
        connection = self._reusable() or await self._another()
        try:
            try:
                await self._send(connection, method, path, headers or {}, body)
            except ConnectionError:
                # The server may close an idle connection in the moment that we use it.
                if not connection.stale or method not in _IDEMPOTENT:
                    raise
                connection.abort()
                connection = await self._connect()
                await self._send(connection, method, path, headers or {}, body)
            yield connection
        finally:
            self._put_back(connection)

    def _reusable(self) -> ClientConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _another(self) -> ClientConnection:
        """Dial, one at a time: of a burst of requests most then find a connection that an earlier one gave back, and
        save a TLS handshake, which costs both sides more than the request."""
        async with self._dialing:
            return self._reusable() or await self._connect()

    def _put_back(self, connection: ClientConnection) -> None:
        if connection.reusable and connection not in self._former and not self._closed and len(self._idle) < MAX_IDLE:
            connection.reused = True
            self._idle.append(connection)
        else:
            self._former.discard(connection)
            connection.abort()

    async def _connect(self) -> ClientConnection:
        if self._closed:
            raise ConnectionError("the client is closed")
        async with asyncio.timeout(CONNECT_TIMEOUT):
            wire = await dial(
                self._host,
                self._port,
                path=self._socket_path,
                tls=self._tls,
                server_name=self._server_name,
                outside=self._outside,
                opened=self._opened,
            )
        connection = ClientConnection(wire, asyncio.get_running_loop(), self._open.discard)
        self._open.add(connection)
        return connection

    async def _send(self, connection: ClientConnection, method: str, path: str, headers: Fields, body: bytes) -> None:
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ValueError(f"path {path!r} is not percent-encoded")
        merged: dict[str, str | tuple[str, ...]] = {**self.headers, **headers}
        if body or method in ("POST", "PUT", "PATCH"):
            merged["Content-Length"] = str(len(body))
        lines = [f"{method} {self._prefix}{path} HTTP/1.1\r\n"]
        for name, values in merged.items():
            for value in (values,) if isinstance(values, str) else values:
                if "\n" in value or "\r" in value:
                    raise ValueError(f"header {name!r} contains a line break")
                lines.append(f"{name}: {value}\r\n")
        lines.append("\r\n")
        await connection.ask(method, "".join(lines).encode("latin-1"), body)
