"""port-forward over SPDY and over WebSocket channels, against a server that shouts back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tiphys.base.http import websocket
from tiphys.base.http.client import HttpClient
from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.base.http.types import Duplex

Serving = Callable[..., AbstractAsyncContextManager[tuple[Any, int]]]


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


@asynccontextmanager
async def shouting() -> AsyncIterator[int]:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def forwarding(serving: Serving, tunnel: bool) -> AsyncIterator[tuple[SpdyConnection, int]]:
    async with shouting() as target, serving() as (_, port), HttpClient(f"http://127.0.0.1:{port}") as client:
        carrier: Duplex
        if tunnel:
            socket = await websocket.connect(client, "/portforward", ["SPDY/3.1+portforward.k8s.io"])
            carrier = websocket.MessageDuplex(socket)
        else:
            headers = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "portforward.k8s.io"}
            answer, duplex = await client.upgrade("POST", "/portforward", headers)
            assert duplex is not None, answer
            carrier = duplex
        connection = SpdyConnection(carrier, server=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.run())
            yield connection, target
            await connection.close()


async def everything(stream: SpdyStream) -> bytes:
    data = b""
    while chunk := await stream.read():
        data += chunk
    return data


async def one(connection: SpdyConnection, port: int, request: str, sent: bytes) -> tuple[bytes, bytes]:
    """What one forwarded connection answers, and its errors."""
    common = {"port": str(port), "requestID": request}
    error = await connection.open({"streamType": "error", **common})
    await error.write_eof()
    data = await connection.open({"streamType": "data", **common})
    async with asyncio.TaskGroup() as group:

        async def send() -> None:
            await data.write(sent)
            await data.write_eof()

        group.create_task(send())
        answer = group.create_task(everything(data))
    return answer.result(), await everything(error)


def test_many_connections_at_once(serving: Serving) -> None:
    sent = b"hello" * 100_000

    async def run(tunnel: bool) -> None:
        async with forwarding(serving, tunnel) as (connection, port), asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(connection, port, str(number), sent)) for number in range(4)]
        assert all(task.result() == (sent.upper(), b"") for task in tasks)

    asyncio.run(run(tunnel=False))
    asyncio.run(run(tunnel=True))


def test_a_refused_port_is_told_and_others_go_on(serving: Serving) -> None:
    async def run() -> None:
        async with forwarding(serving, tunnel=False) as (connection, port):
            common = {"port": "1", "requestID": "0"}
            error = await connection.open({"streamType": "error", **common})
            data = await connection.open({"streamType": "data", **common})
            assert (await everything(error)).startswith(b"error forwarding port 1: ")
            assert await everything(data) == b""
            assert await one(connection, port, "1", b"still") == (b"STILL", b"")

    asyncio.run(run())


def test_websocket_channels(serving: Serving) -> None:
    async def run() -> None:
        async with shouting() as target, serving() as (_, port), HttpClient(f"http://127.0.0.1:{port}") as client:
            path = f"/portforward?ports={target}&ports=1"
            socket = await websocket.connect(client, path, ["v4.channel.k8s.io"])
            for channel, number in ((0, target), (1, target), (2, 1), (3, 1)):
                assert await socket.recv() == bytes((channel,)) + number.to_bytes(2, "little")
            refused = await socket.recv()
            assert isinstance(refused, bytes)
            assert refused.startswith(b"\3error forwarding port 1: ")
            await socket.send(b"\0hello")
            assert await socket.recv() == b"\0HELLO"
            await socket.close()

    asyncio.run(run())


def test_bad_ports_are_refused(serving: Serving) -> None:
    async def run() -> None:
        async with serving() as (_, port), HttpClient(f"http://127.0.0.1:{port}") as client:
            for query in ("", "?port=0", "?port=x", "?port=70000"):
                headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
                answer, _ = await client.upgrade("GET", f"/portforward{query}", headers)
                assert answer.status == 400

    asyncio.run(run())
