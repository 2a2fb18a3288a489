"""WebSockets between our server and our client, and against frames made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tiphys.base.errors import ApiError
from tiphys.base.http import websocket
from tiphys.base.http.client import HttpClient
from tiphys.base.http.encode import failure
from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.base.http.websocket import MessageDuplex, WebSocket

Session = Callable[[WebSocket], Awaitable[None]]


async def echo(socket: WebSocket) -> None:
    while (message := await socket.recv()) is not None:
        await socket.send(message)


@asynccontextmanager
async def to_server(session: Session = echo, max_message: int = 1 << 20) -> AsyncIterator[HttpClient]:
    async def handler(request: Request) -> Response:
        try:
            return websocket.accept(request, ("b", "a", ""), session, max_message=max_message)
        except ApiError as error:
            return failure(error)

    async with serve(handler, "127.0.0.1", 0) as server, HttpClient(f"http://127.0.0.1:{server.port}") as client:
        yield client


def test_messages_of_both_kinds_and_any_size_come_back() -> None:
    async def run() -> None:
        async with to_server() as client:
            socket = await websocket.connect(client, "/", ["z", "a", "b"])
            assert socket.protocol == "a"
            for message in ("text é", b"", b"\0" * 126, bytes(range(256)) * 3000):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.ping(b"x")
            await socket.close()
            assert await socket.recv() is None

    asyncio.run(run())


def test_the_session_s_end_closes_normally() -> None:
    async def once(socket: WebSocket) -> None:
        await socket.send("bye")

    async def run() -> int | None:
        async with to_server(once) as client:
            socket = await websocket.connect(client, "/")
            assert await socket.recv() == "bye"
            assert await socket.recv() is None
            return socket.close_code

    assert asyncio.run(run()) == websocket.NORMAL


def test_a_broken_session_closes_with_internal_error() -> None:
    async def broken(socket: WebSocket) -> None:
        raise LookupError

    async def run() -> int | None:
        async with to_server(broken) as client:
            socket = await websocket.connect(client, "/")
            assert await socket.recv() is None
            return socket.close_code

    assert asyncio.run(run()) == websocket.INTERNAL_ERROR


def test_too_large_messages_close_the_connection() -> None:
    async def run() -> int | None:
        async with to_server(max_message=1000) as client:
            socket = await websocket.connect(client, "/")
            await socket.send(b"x" * 1001)
            assert await socket.recv() is None
            return socket.close_code

    assert asyncio.run(run()) == websocket.TOO_BIG


def test_handshakes_that_do_not_fit_are_refused() -> None:
    async def run() -> None:
        async with to_server() as client:
            with pytest.raises(ConnectionError, match="403"):
                await websocket.connect(client, "/", ["unknown"])
            assert (await client.request("GET", "/")).status == 400

    asyncio.run(run())


def test_fragments_are_joined_and_unmasked_frames_refused() -> None:
    async def run() -> tuple[bytes | str | None, int | None]:
        got: list[bytes | str | None] = []

        async def session(socket: WebSocket) -> None:
            got.append(await socket.recv())
            got.append(await socket.recv())

        async with to_server(session) as client:
            key = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
            _, duplex = await client.upgrade("GET", "/", {"Upgrade": "websocket", **key})
            assert duplex is not None
            zero = b"\0\0\0\0"
            await duplex.write(b"\x02\x82" + zero + b"ab" + b"\x89\x80" + zero + b"\x80\x81" + zero + b"c")
            assert await duplex.read() == b"\x8a\x00"
            await duplex.write(b"\x82\x01x")
            data = b""
            while chunk := await duplex.read():
                data += chunk
            await duplex.close()
        assert got[1] is None
        return got[0], int.from_bytes(data[2:4])

    assert asyncio.run(run()) == (b"abc", websocket.PROTOCOL_ERROR)


def test_a_byte_stream_over_messages() -> None:
    async def session(socket: WebSocket) -> None:
        duplex = MessageDuplex(socket)
        assert await duplex.read(3) == b"hel"
        await duplex.write(await duplex.read() + await duplex.read())

    async def run() -> None:
        async with to_server(session) as client:
            duplex = MessageDuplex(await websocket.connect(client, "/"))
            await duplex.write(b"hello")
            await duplex.write(b" you")
            assert await duplex.read() == b"lo you"
            assert await duplex.read() == b""

    asyncio.run(run())
