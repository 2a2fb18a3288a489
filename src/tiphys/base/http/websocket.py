"""WebSockets (RFC 6455) over an upgraded connection, frames by wsproto.

`accept` answers a Request by a Response that upgrades and runs a session with the `WebSocket`; `connect` opens one
to a server. `MessageDuplex` makes a byte stream of binary messages, as kubectl's SPDY tunnel needs. Compression is not
negotiated: what goes through here is terminal output and archives.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.utilities import ProtocolError

from tiphys.base.errors import BadRequest, Forbidden
from tiphys.base.http.client import HttpClient
from tiphys.base.http.types import Duplex, Request, Response, is_websocket

MAX_MESSAGE = 16 << 20
"""Bytes of one message that we accept; a larger one closes the connection with 1009."""
NORMAL, PROTOCOL_ERROR, TOO_BIG, INTERNAL_ERROR = 1000, 1002, 1009, 1011
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket:
    """One conversation. One task may receive while others send."""

    def __init__(self, duplex: Duplex, protocol: str, *, client: bool = False, max_message: int = MAX_MESSAGE) -> None:
        self._duplex = duplex
        self.protocol = protocol
        """The subprotocol agreed on; "" for none."""
        self._max_message = max_message
        self._frames = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._parts: list[bytes | str] = []
        self._size = 0
        self._ready: deque[bytes | str] = deque()
        self.close_code: int | None = None
        """The peer's close code; 1006 when it left without a word; None while the conversation goes on."""

    async def recv(self) -> bytes | str | None:
        """The next message: bytes or text as it was sent; None when the peer has closed. Answers pings."""
        while not self._ready:
            if self.close_code is not None:
                return None
            data = await self._duplex.read()
            try:
                self._frames.receive_data(data or None)
                for event in self._frames.events():
                    await self._handle(event)
            except ProtocolError as error:
                await self.close(PROTOCOL_ERROR, str(error))
                self.close_code = PROTOCOL_ERROR
        return self._ready.popleft()

    async def _handle(self, event: events.Event) -> None:
        if isinstance(event, events.Message):
            await self._part(event)
        elif isinstance(event, events.Ping):
            await self._send(event.response())
        elif isinstance(event, events.CloseConnection):
            self.close_code = event.code
            if self._frames.state is ConnectionState.REMOTE_CLOSING:
                await self._send(event.response())
            elif self._frames.state is ConnectionState.OPEN:  # wsproto's way to say that a frame was malformed
                await self.close(event.code, event.reason or "")

    async def _part(self, event: events.Message[Any]) -> None:
        self._size += len(event.data)
        if self._size > self._max_message:
            await self.close(TOO_BIG, f"message larger than {self._max_message} bytes")
            self.close_code = TOO_BIG
            return
        self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if event.message_finished:
            parts, self._parts, self._size = self._parts, [], 0
            if isinstance(event.data, str):
                self._ready.append("".join(part for part in parts if isinstance(part, str)))
            else:
                self._ready.append(b"".join(part for part in parts if isinstance(part, bytes)))

    async def send(self, data: bytes | str) -> None:
        """One message; waits while the peer is slow. Raises ConnectionError when it has gone."""
        if isinstance(data, str):
            await self._send(events.TextMessage(data=data))
        else:
            await self._send(events.BytesMessage(data=data))

    async def ping(self, payload: bytes = b"") -> None:
        await self._send(events.Ping(payload=payload))

    async def _send(self, event: events.Event) -> None:
        try:
            data = self._frames.send(event)
        except ProtocolError as error:
            raise ConnectionResetError("the WebSocket is closed") from error
        await self._duplex.write(data)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say goodbye (unless that was done) and close the connection."""
        if self._frames.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            with contextlib.suppress(OSError):
                await self._send(events.CloseConnection(code=code, reason=reason[:100]))
        await self._duplex.close()


class MessageDuplex:
    """The Duplex that a WebSocket's binary messages form, end to end; message borders mean nothing."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._rest = b""

    async def read(self, limit: int = 65536) -> bytes:
        while not self._rest:
            message = await self._socket.recv()
            if message is None:
                return b""
            self._rest = message if isinstance(message, bytes) else message.encode()
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    async def write_eof(self) -> None:
        """WebSockets have no half-close: this closes."""
        await self.close()

    async def close(self) -> None:
        await self._socket.close()


def offered(request: Request) -> list[str]:
    """The subprotocols that the client can speak, the preferred first."""
    names = (name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(","))
    return [name for name in names if name]


def _accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def accept(
    request: Request,
    protocols: Sequence[str],
    session: Callable[[WebSocket], Awaitable[None]],
    *,
    max_message: int = MAX_MESSAGE,
) -> Response:
    """The response that upgrades to a WebSocket and runs `session`, which is closed with 1000 when it returns.

    The client's first offer that is in `protocols` is taken; "" in `protocols` allows a client that offers none.
    Raises BadRequest for a malformed handshake, Forbidden when there is no protocol in common.
    """
    key = request.headers.get("sec-websocket-key", "")
    if not is_websocket(request) or not key or request.headers.get("sec-websocket-version") != "13":
        raise BadRequest("not a WebSocket handshake (RFC 6455, 4.2.1)")
    offers = offered(request)
    chosen = next((name for name in offers or [""] if name in protocols), None)
    if chosen is None:
        raise Forbidden(f"requested protocol(s) are not supported: {offers}; supports {list(protocols)}")
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": _accept_key(key)}
    if chosen:
        headers["Sec-WebSocket-Protocol"] = chosen

    async def run(duplex: Duplex) -> None:
        socket = WebSocket(duplex, chosen, max_message=max_message)
        code = INTERNAL_ERROR
        try:
            await session(socket)
            code = NORMAL
        finally:
            await socket.close(code)

    return Response(101, headers, upgrade=run)


async def connect(
    client: HttpClient, path: str, protocols: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> WebSocket:
    """A WebSocket to `path`. Raises ConnectionError, with the server's answer, when it is refused."""
    key = base64.b64encode(os.urandom(16)).decode()
    asked = {**(headers or {}), "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    if protocols:
        asked["Sec-WebSocket-Protocol"] = ", ".join(protocols)
    answer, duplex = await client.upgrade("GET", path, asked)
    if duplex is None:
        raise ConnectionError(f"{path}: {answer.status} instead of a WebSocket: {answer.body[:500]!r}")
    if answer.headers.get("sec-websocket-accept") != _accept_key(key):
        await duplex.close()
        raise ConnectionError(f"{path}: wrong Sec-WebSocket-Accept")
    return WebSocket(duplex, answer.headers.get("sec-websocket-protocol", ""), client=True)
