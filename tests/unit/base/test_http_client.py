"""The HTTP client: reuse, stale connections, streams, upgrades, errors; over TLS unless it does not matter."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from tiphys.base import tls
from tiphys.base.http.client import HttpClient
from tiphys.base.http.server import serve
from tiphys.base.http.types import Duplex, Request, Response


async def site(request: Request) -> Response:
    match request.path:
        case "/big":
            return Response(200, body=b"x" * 3_000_000)
        case "/port":
            return Response(200, body=str(request.peer.port).encode())
        case "/stream":
            return Response(200, stream=counting())
        case "/endless":
            return Response(200, stream=endless())
        case "/empty":
            return Response(204)
        case "/shout":
            return Response(101, {"Connection": "Upgrade", "Upgrade": "shout"}, upgrade=shout)
        case "/hang":
            await asyncio.Event().wait()
    return Response(200, {"X-Seen": request.headers.get("x-mine", "")}, request.method.encode() + request.body)


async def counting() -> AsyncIterator[bytes]:
    for n in range(5):
        yield b"%d\n" % n


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536


async def shout(duplex: Duplex) -> None:
    while data := await duplex.read():
        await duplex.write(data.upper())


@asynccontextmanager
async def to_site(
    identity: ssl.SSLContext, trust: ssl.SSLContext, headers: Mapping[str, str] | None = None
) -> AsyncIterator[HttpClient]:
    async with (
        serve(site, "127.0.0.1", 0, tls=identity) as server,
        HttpClient(f"https://127.0.0.1:{server.port}", tls=trust, headers=headers) as client,
    ):
        yield client


@pytest.fixture
def trust(authority: tls.Authority) -> ssl.SSLContext:
    return tls.client_context(authority.certificate)


@pytest.fixture
def identity(server_pair: tls.KeyPair) -> ssl.SSLContext:
    return tls.server_context(server_pair)


def test_requests_reuse_a_connection(trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
    async def run() -> None:
        async with to_site(identity, trust, {"X-Mine": "1"}) as client:
            first = await client.request("GET", "/port")
            answer = await client.request("POST", "/", body=b" hello")
            assert (answer.status, answer.headers["x-seen"], answer.body) == (200, "1", b"POST hello")
            assert (await client.request("GET", "/empty")).status == 204
            head = await client.request("HEAD", "/big")
            assert (head.headers["content-length"], head.body) == ("3000000", b"")
            assert len((await client.request("GET", "/big")).body) == 3_000_000
            assert (await client.request("GET", "/port")).body == first.body

    asyncio.run(run())


def test_concurrent_requests_have_their_own_connections(trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
    async def run() -> None:
        async with to_site(identity, trust) as client:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client.request("GET", "/big")) for _ in range(5)]
            assert {len(task.result().body) for task in tasks} == {3_000_000}

    asyncio.run(run())


def test_a_burst_of_requests_shares_few_connections(trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
    async def run() -> None:
        async with to_site(identity, trust) as client:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client.request("GET", "/port")) for _ in range(60)]
            assert len({task.result().body for task in tasks}) < 30

    asyncio.run(run())


def test_streams_come_piece_by_piece_and_may_be_left(trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
    async def run() -> None:
        async with to_site(identity, trust) as client:
            async with client.stream("GET", "/stream") as (status, headers, chunks):
                assert status == 200
                assert headers["transfer-encoding"] == "chunked"
                assert b"".join([chunk async for chunk in chunks]) == b"0\n1\n2\n3\n4\n"
            async with client.stream("GET", "/endless") as answer:
                async for _ in answer.chunks:
                    break
            assert (await client.request("GET", "/")).status == 200

    asyncio.run(run())


def test_upgrades_give_a_byte_stream(trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
    async def run() -> None:
        async with to_site(identity, trust) as client:
            answer, duplex = await client.upgrade("POST", "/shout", {"Upgrade": "shout"})
            assert answer.status == 101
            assert duplex is not None
            await duplex.write(b"hello")
            assert await duplex.read() == b"HELLO"
            await duplex.close()
            refused, nothing = await client.upgrade("GET", "/", {"Upgrade": "shout"})
            assert (refused.status, refused.body, nothing) == (200, b"GET", None)

    asyncio.run(run())


def test_big_data_passes_an_upgraded_connection(trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
    data = bytes(range(256)) * 20_000

    async def run() -> bytes:
        async with to_site(identity, trust) as client:
            _, duplex = await client.upgrade("POST", "/shout", {"Upgrade": "shout"})
            assert duplex is not None
            async with asyncio.TaskGroup() as group:
                group.create_task(duplex.write(data))
                got = bytearray()
                while len(got) < len(data):
                    got += await duplex.read()
            await duplex.close()
            return bytes(got)

    assert asyncio.run(run()) == data.upper()


def test_a_stale_connection_is_replaced() -> None:
    async def run() -> None:
        count = 0

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Answers one request, swallows the second and closes: the race with a server's idle timeout."""
            nonlocal count
            count += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % count)
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, HttpClient(f"http://127.0.0.1:{port}") as client:
            assert (await client.request("GET", "/")).body == b"1"
            assert (await client.request("GET", "/")).body == b"2"
            with pytest.raises(ConnectionError):
                await client.request("POST", "/")

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"garbage\r\n\r\n",
        b"",
    ],
)
def test_broken_answers_are_connection_errors(answer: bytes) -> None:
    async def run() -> None:
        async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, HttpClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(ConnectionError):
                await client.request("GET", "/")

    asyncio.run(run())


def test_bodies_without_length_last_until_the_end() -> None:
    async def run() -> bytes:
        async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall of it")
            writer.close()

        server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, HttpClient(f"http://127.0.0.1:{port}") as client:
            return (await client.request("GET", "/")).body

    assert asyncio.run(run()) == b"all of it"


def test_timeouts_and_refusals_are_os_errors(identity: ssl.SSLContext) -> None:
    async def run() -> None:
        async with serve(site, "127.0.0.1", 0, tls=identity, grace=0.1) as server:
            async with HttpClient(f"https://127.0.0.1:{server.port}") as client:
                with pytest.raises(ssl.SSLError):
                    await client.request("GET", "/")
            untrusting = tls.client_context(verify=False)
            async with HttpClient(f"https://127.0.0.1:{server.port}", tls=untrusting) as client:
                with pytest.raises(TimeoutError):
                    await client.request("GET", "/hang", timeout=0.05)
        async with HttpClient(f"http://127.0.0.1:{server.port}") as client:
            with pytest.raises(ConnectionRefusedError):
                await client.request("GET", "/")

    asyncio.run(run())
