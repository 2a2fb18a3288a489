"""Heads and bodies of HTTP/1.1 messages: what is read, in whatever pieces it comes."""

from __future__ import annotations

import random

import pytest

from tiphys.gateway.proxy import framing
from tiphys.gateway.proxy.framing import Body, ChunkedBody, LengthBody, OpenBody
from tiphys.gateway.proxy.heads import Malformed, hostname, parse_request, parse_response


def test_a_request_head_keeps_order_and_spelling() -> None:
    head = parse_request(
        b"GET /a?b=1 HTTP/1.1\r\nHOST: Example.COM:8080\r\nX-a:1\r\nx-A:  2 \r\nCookie: a=1\r\nCookie: b=2"
    )
    assert (head.method, head.target, head.path, head.query, head.minor) == ("GET", "/a?b=1", "/a", "b=1", 1)
    assert (head.host, head.hostname) == ("Example.COM:8080", "example.com")
    assert head.fields[1:3] == [("x-a", "X-a:1"), ("x-a", "x-A:  2 ")]
    assert head.headers["x-a"] == "1, 2"
    assert head.headers["cookie"] == "a=1; b=2"


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET http://other:81/x?y HTTP/1.1", "/x?y", "other:81"),
        (b"GET http://other HTTP/1.1", "/", "other"),
        (b"GET http://other?q HTTP/1.1", "/?q", "other"),
        (b"OPTIONS * HTTP/1.1", "*", "a"),
    ],
)
def test_other_forms_of_targets(line: bytes, target: str, host: str) -> None:
    head = parse_request(line + b"\r\nHost: a")
    assert (head.target, head.host) == (target, host)


@pytest.mark.parametrize(
    "line", [b"GET x HTTP/1.1", b"GET ftp://a/ HTTP/1.1", b"GET http://u@a/ HTTP/1.1", b"CONNECT a:1 HTTP/1.1"]
)
def test_targets_that_are_refused(line: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(line + b"\r\nHost: a")


@pytest.mark.parametrize(
    ("host", "name"), [("A.b:80", "a.b"), ("a.b.", "a.b"), ("[::1]:80", "[::1]"), ("[FE80::1]", "[fe80::1]"), ("", "")]
)
def test_hostnames(host: str, name: str) -> None:
    assert hostname(host) == name


def test_a_response_head() -> None:
    head = parse_response(b"HTTP/1.0 404 Not Found\r\nServer: x")
    assert (head.status, head.reason, head.minor) == (404, "Not Found", 0)
    assert parse_response(b"HTTP/1.1 200").reason == ""


def pieces(data: bytes, dice: random.Random) -> list[bytes]:
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def fed(body: Body, parts: list[bytes]) -> tuple[bytes, bytes | None]:
    payload, rest = b"", None
    for part in parts:
        if rest is not None:
            rest += part
            continue
        more, rest = body.feed(part)
        payload += more
    return payload, rest


def test_a_chunked_body_is_the_same_in_any_pieces() -> None:
    dice = random.Random(7)
    for _ in range(400):
        parts = [dice.randbytes(dice.randrange(1, 40)) for _ in range(dice.randrange(5))]
        data = b"".join(b"%x%b\r\n%b\r\n" % (len(part), dice.choice((b"", b";x=1")), part) for part in parts)
        data += b"000\r\n" + dice.choice((b"", b"A: b\r\n")) + b"\r\nNEXT"
        assert fed(ChunkedBody(), pieces(data, dice)) == (b"".join(parts), b"NEXT")


def test_a_body_of_known_length_and_one_of_none() -> None:
    assert fed(LengthBody(3), [b"a", b"bcNEXT"]) == (b"abc", b"NEXT")
    assert fed(OpenBody(), [b"a", b"b"]) == (b"ab", None)


@pytest.mark.parametrize(
    "data", [b"\r\n", b"-1\r\n", b"1 1\r\n", b"g\r\n", b"1\n", b"1\r\nabcd", b"1" * 16 + b"\r\n", b"1;" + b"x" * 5000]
)
def test_chunks_that_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        ChunkedBody().feed(data)


def test_endless_trailers_are_refused() -> None:
    body = ChunkedBody()
    with pytest.raises(Malformed):
        body.feed(b"0\r\n" + b"A: b\r\n" * 10_000)


def test_what_follows_a_response_head() -> None:
    def of(fields: bytes, method: str = "GET", status: bytes = b"200") -> tuple[Body | None, int | None]:
        return framing.response_body(parse_response(b"HTTP/1.1 " + status + b" x" + fields), method)

    assert isinstance(of(b"")[0], OpenBody)
    assert isinstance(of(b"\r\nTransfer-Encoding: Chunked")[0], ChunkedBody)
    assert of(b"\r\nContent-Length: 0") == (None, 0)
    assert of(b"\r\nContent-Length: 9", "HEAD") == (None, 9)
    assert of(b"\r\nContent-Length: 9", status=b"304") == (None, 9)
    assert of(b"", status=b"204") == (None, None)
