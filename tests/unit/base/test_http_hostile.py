"""Requests that mean one thing to a proxy and another to a careless server, or that never end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tiphys.base.http import server
from tiphys.base.http.client import HttpClient
from tiphys.base.http.parse import MAX_HEAD, RequestReader
from tiphys.base.http.types import Request, Response

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"


def read(*pieces: bytes) -> RequestReader:
    reader = RequestReader(1 << 20)
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
        HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        HEAD + b"Content-Length : 4\r\n\r\nabcd",
        HEAD + b"Content-Length: +4\r\n\r\nabcd",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=\nb\r\nx\r\n0\r\n\r\n",
        HEAD + b"A: b\r\n c\r\n\r\n",
        HEAD + b"A: b\rC: d\r\n\r\n",
        HEAD + b"A: b\0c\r\n\r\n",
        HEAD + b"Host: y\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
    ],
)
def test_ambiguous_framing_is_refused(request_: bytes) -> None:
    reader = read(request_)
    assert reader.refused is not None
    assert reader.refused.status == 400
    assert not [one for one in reader.ready if one.request.path == "/evil"]


def test_trailers_are_no_headers() -> None:
    trailer = b"0\r\nImpersonate-User: admin\r\nAuthorization: Bearer x\r\n\r\n"
    reader = read(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + trailer + NEXT)
    first, second = reader.ready
    assert set(first.request.headers) == {"host", "transfer-encoding"}
    assert second.request.path == "/evil"


def test_trailers_have_an_end() -> None:
    line = b"A: " + b"x" * 10_000 + b"\r\n"
    reader = read(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *([line] * (MAX_HEAD // len(line) + 2)))
    assert reader.refused is not None
    assert reader.refused.status == 431


def test_a_trailer_without_an_end_is_cut() -> None:
    reader = RequestReader(1000)
    reader.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ")
    for _ in range(30):
        reader.feed(b"x" * 10_000)
    assert reader.refused is not None


def test_a_body_of_tiny_chunks_is_read() -> None:
    reader = RequestReader(1000)
    reader.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        reader.feed(b"1\r\nx\r\n")
    reader.feed(b"0\r\n\r\n")
    assert reader.ready[0].request.body == b"x" * 1000


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d\r\n" % len(NEXT), NEXT),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(NEXT), NEXT)),
    ],
)
def test_the_body_of_a_request_that_offers_an_upgrade_is_its_body(framing: bytes, body: bytes, size: int) -> None:
    offer = HEAD + b"Connection: Upgrade\r\nUpgrade: tcp\r\n" + framing + b"\r\n" + body
    reader = read(*(offer[start : start + size] for start in range(0, len(offer), size)))
    [exchange] = reader.ready
    assert exchange.request.body == NEXT
    assert exchange.request.headers["upgrade"] == "tcp"
    assert exchange.request.headers["connection"] == "Upgrade"
    assert reader.refused is None


def test_what_follows_an_offer_without_a_body_is_the_new_protocols() -> None:
    reader = read(HEAD + b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nhello")
    assert [one.upgrade for one in reader.ready] == [True]
    assert reader.next_protocol() == b"hello"


def test_clients_that_ask_for_much_and_read_nothing_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 16 << 20
    monkeypatch.setattr(server, "MAX_UNSENT", 3 * size)

    async def handler(request: Request) -> Response:
        return Response(200, body=b"x" * size)

    async def main() -> None:
        async with server.serve(handler, "127.0.0.1", 0) as listening, contextlib.AsyncExitStack() as stack:
            greedy = []
            for _ in range(12):
                reader, writer = await asyncio.open_connection("127.0.0.1", listening.port, limit=1024)
                stack.callback(writer.close)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await writer.drain()
                greedy.append(reader)
            async with HttpClient(f"http://127.0.0.1:{listening.port}") as client, asyncio.timeout(10):
                assert len((await client.request("GET", "/")).body) == size
            assert listening.connections <= 6
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await greedy[0].readexactly(size)

    asyncio.run(main())
