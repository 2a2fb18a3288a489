"""The HTTP server on the wire: framing, limits, disconnects, streams, upgrades, draining."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tiphys.base import tls
from tiphys.base.errors import NotFound, TooManyRequests
from tiphys.base.http.client import HttpClient
from tiphys.base.http.connection import Phase
from tiphys.base.http.server import serve, serve_unix
from tiphys.base.http.types import Duplex, Handler, Request, Response

Connect = Callable[[int], Any]


async def echo(request: Request) -> Response:
    text = f"{request.method} {request.path}?{request.query_string} {len(request.body)}"
    return Response(200, {"Content-Type": "text/plain"}, text.encode())


async def waiting_echo(request: Request) -> Response:
    async with asyncio.timeout(5):  # needs a current task from the first step on
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    return await echo(request)


def exchange(handler: Handler, sent: bytes, raw: Connect, **options: Any) -> bytes:
    """All that the server says to `sent`, until it closes."""

    async def run() -> bytes:
        async with serve(handler, "127.0.0.1", 0, **options) as server, raw(server.port) as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(10):
                return bytes(await reader.read())

    return asyncio.run(run())


@pytest.mark.parametrize("handler", [echo, waiting_echo])
def test_pipelined_requests_are_answered_in_order(handler: Handler, raw: Connect) -> None:
    one = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(handler, b"".join(one % n for n in range(5)) + last, raw)
    assert [line for line in answer.decode().splitlines() if "GET" in line] == [
        *(f"GET /{n}? 0HTTP/1.1 200 OK" for n in range(5)),
        "GET /last? 0",
    ]


def test_http_1_0_closes_unless_asked_to_keep(raw: Connect) -> None:
    assert b"connection: close" in exchange(echo, b"GET / HTTP/1.0\r\n\r\n", raw)


def test_chunked_request_bodies_are_joined(raw: Connect) -> None:
    sent = (
        b"POST /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    )
    assert exchange(echo, sent, raw).endswith(b"POST /p? 7")


def test_paths_are_decoded_and_absolute_targets_understood(raw: Connect) -> None:
    sent = b"GET http://host/a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert exchange(echo, sent, raw).endswith(b"GET /a b?c=%20 0")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 400_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n",
            b"413",
        ),
    ],
)
def test_what_cannot_be_accepted_is_refused_and_the_connection_closed(sent: bytes, status: bytes, raw: Connect) -> None:
    async def run() -> bytes:
        async with serve(echo, "127.0.0.1", 0, max_body=1000) as server, raw(server.port) as (reader, writer):
            writer.write(sent)
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write_eof()
            await reader.read()
            return bytes(answer)

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer


def test_expect_100_continue_is_answered_before_the_body(raw: Connect) -> None:
    async def run() -> bytes:
        async with serve(echo, "127.0.0.1", 0) as server, raw(server.port) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            await reader.readuntil(b"\r\n\r\n")
            return bytes(await reader.read(100))

    assert asyncio.run(run()) == b"POST /? 3"


def test_head_has_the_length_but_no_body(raw: Connect) -> None:
    answer = exchange(echo, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", raw)
    assert b"content-length: 9\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def broken(request: Request) -> Response:
    raise RuntimeError("secret path /root")


async def not_found(request: Request) -> Response:
    raise NotFound('pods "x" not found')


async def too_many(request: Request) -> Response:
    raise TooManyRequests("slow down", retry_after=2)


async def splitting(request: Request) -> Response:
    return Response(200, {"X": "a\r\nSet-Cookie: evil"})


@pytest.mark.parametrize(
    ("handler", "status", "text"),
    [
        (broken, b"500", b"Internal error occurred"),
        (not_found, b"404", b'pods \\"x\\" not found'),
        (too_many, b"429", b"Retry-After: 2"),
        (splitting, b"500", b"Internal error occurred"),
    ],
)
def test_errors_become_status_answers_without_inside_knowledge(
    handler: Handler, status: bytes, text: bytes, raw: Connect
) -> None:
    answer = exchange(handler, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", raw)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert text in answer
    assert b"secret" not in answer
    assert b"evil" not in answer


def test_a_handler_is_cancelled_when_its_client_goes(raw: Connect) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()
    seen: list[bool] = []

    async def handler(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(request.connection_lost())
            cancelled.set()
        raise AssertionError

    async def run() -> None:
        async with serve(handler, "127.0.0.1", 0) as server:
            async with raw(server.port) as (_, writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await started.wait()
            async with asyncio.timeout(5):
                await cancelled.wait()

    asyncio.run(run())
    assert seen == [True]


def test_a_stream_is_closed_when_its_client_goes(raw: Connect) -> None:
    closed = asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, stream=events())

    async def run() -> None:
        async with serve(handler, "127.0.0.1", 0) as server:
            async with raw(server.port) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await reader.readuntil(b"3\r\none\r\n")).startswith(b"HTTP/1.1 200 OK\r\ntransfer-encoding")
            async with asyncio.timeout(5):
                await closed.wait()

    asyncio.run(run())


def test_a_stream_waits_for_a_slow_client_and_a_stuck_one_is_cut(raw: Connect) -> None:
    produced: list[int] = []
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                produced.append(1)
                yield b"x" * 65536
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, stream=endless())

    class Ticks:
        """A clock whose sleeps end when the test says so."""

        def __init__(self) -> None:
            self.gate = asyncio.Semaphore(0)

        def time(self) -> float:
            return 0.0

        monotonic = time

        async def sleep(self, seconds: float) -> None:
            await self.gate.acquire()

    async def run() -> None:
        clock = Ticks()
        async with serve(handler, "127.0.0.1", 0, clock=clock) as server, raw(server.port) as (_, writer):
            writer.transport.pause_reading()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            count = -1
            while count != len(produced) or not produced:  # until the buffers of both kernels are full
                count = len(produced)
                await asyncio.get_running_loop().run_in_executor(None, _breathe)
            assert len(produced) < 1000
            for _ in range(20):
                clock.gate.release()
            async with asyncio.timeout(5):
                await closed.wait()

    asyncio.run(run())


def _breathe() -> None:
    import threading

    threading.Event().wait(0.1)


def test_slow_requests_and_idle_connections_run_out_of_time(raw: Connect) -> None:
    from tiphys.base.http.connection import ServerConnection

    async def run() -> None:
        connections: list[ServerConnection] = []
        original = ServerConnection.connected

        def connected(self: ServerConnection) -> None:
            connections.append(self)
            original(self)

        ServerConnection.connected = connected  # type: ignore[method-assign]
        try:
            async with serve(waiting_echo, "127.0.0.1", 0) as server, raw(server.port) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readuntil(b"GET /? 0")
                writer.write(b"GET / HT")
                while not connections or connections[0]._phase is not Phase.HEAD:
                    await asyncio.get_running_loop().run_in_executor(None, _breathe)
                connections[0].tick(Phase.HEAD.value)
                assert (await reader.read()).startswith(b"HTTP/1.1 408")
                async with raw(server.port) as (reader2, _):
                    while len(connections) < 2:
                        await asyncio.get_running_loop().run_in_executor(None, _breathe)
                    connections[1].tick(Phase.IDLE.value)
                    assert await reader2.read() == b""
        finally:
            ServerConnection.connected = original  # type: ignore[method-assign]

    asyncio.run(run())


def test_an_upgrade_gets_the_bytes_after_the_head(raw: Connect) -> None:
    async def shout(duplex: Duplex) -> None:
        while data := await duplex.read():
            await duplex.write(data.upper())

    async def handler(request: Request) -> Response:
        return Response(101, {"Connection": "Upgrade", "Upgrade": "shout"}, upgrade=shout)

    async def run() -> bytes:
        async with serve(handler, "127.0.0.1", 0) as server, raw(server.port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nearly ")
            writer.write(b"late")
            writer.write_eof()
            return bytes(await reader.read())

    assert asyncio.run(run()) == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nEARLY LATE"
    )


def test_an_offered_upgrade_may_be_declined(raw: Connect) -> None:
    offer = b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    answer = exchange(echo, offer + b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", raw)
    assert b"GET /1? 0" in answer
    assert answer.endswith(b"GET /2? 0")


def test_draining_finishes_requests_and_ends_streams(raw: Connect) -> None:
    async def forever() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def run() -> tuple[bytes, bytes]:
        started, go = asyncio.Event(), asyncio.Event()

        async def handler(request: Request) -> Response:
            if request.path == "/watch":
                return Response(200, stream=forever())
            started.set()
            await go.wait()
            return Response(200, body=b"done")

        async with contextlib.AsyncExitStack() as stack:
            async with serve(handler, "127.0.0.1", 0) as server:
                watcher, w1 = await stack.enter_async_context(raw(server.port))
                getter, w2 = await stack.enter_async_context(raw(server.port))
                w1.write(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
                await watcher.readuntil(b"1\r\nx\r\n")
                w2.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await started.wait()
                asyncio.get_running_loop().call_later(0.05, go.set)
            return await watcher.read(), await getter.read()

    watched, got = asyncio.run(run())
    assert watched == b"0\r\n\r\n"
    assert got.endswith(b"done")


def test_client_certificates_are_optional_and_handed_on(authority: tls.Authority, server_pair: tls.KeyPair) -> None:
    async def who(request: Request) -> Response:
        return Response(200, body=request.peer.certificate or b"nobody")

    async def run() -> tuple[bytes, bytes]:
        context = tls.server_context(server_pair, authority.certificate)
        async with serve(who, "127.0.0.1", 0, tls=context) as server:
            url = f"https://127.0.0.1:{server.port}"
            async with HttpClient(url, tls=tls.client_context(authority.certificate)) as client:
                anonymous = (await client.request("GET", "/")).body
            pair = authority.issue("jane", organizations=["dev"], client=True)
            async with HttpClient(url, tls=tls.client_context(authority.certificate, pair)) as client:
                return anonymous, (await client.request("GET", "/")).body

    anonymous, jane = asyncio.run(run())
    from cryptography import x509

    assert anonymous == b"nobody"
    assert x509.load_der_x509_certificate(jane).subject.rfc4514_string() == "CN=jane,O=dev"


def test_unix_sockets(tmp_path: Path) -> None:
    async def run() -> bytes:
        path = tmp_path / "s"
        async with serve_unix(echo, path), HttpClient("http://docker", socket_path=str(path)) as client:
            assert path.stat().st_mode & 0o777 == 0o660
            answer = (await client.request("GET", "/v1/info")).body
        assert not path.exists()
        return answer

    assert asyncio.run(run()) == b"GET /v1/info? 0"


def test_a_client_that_asks_but_does_not_read_is_held_back(raw: Connect) -> None:
    served: list[int] = []

    async def big(request: Request) -> Response:
        served.append(1)
        return Response(200, body=b"x" * 1_000_000)

    async def run() -> None:
        async with serve(big, "127.0.0.1", 0) as server, raw(server.port) as (_, writer):
            writer.transport.pause_reading()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
            count = -1
            while count != len(served) or not served:
                count = len(served)
                await asyncio.get_running_loop().run_in_executor(None, _breathe)

    asyncio.run(run())
    assert len(served) < 30


def test_errors_in_the_body_of_the_context_are_not_wrapped() -> None:
    async def run() -> None:
        async with serve(echo, "127.0.0.1", 0):
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(run())
