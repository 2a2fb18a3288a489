"""Where a message's body ends, and the chunked coding both ways. Sources: RFC 9112, 6 and 7.

Decoders take bytes as they come: `feed` returns the payload in them and, once the body is over, the bytes after it.
"""

from __future__ import annotations

import re
from typing import Protocol

from tiphys.gateway.proxy.heads import Malformed, RequestHead, ResponseHead

LAST_CHUNK = b"0\r\n\r\n"
MAX_LINE = 4096
"""Bytes of a chunk's size line, with its extensions."""
MAX_TRAILERS = 16384
_LENGTH = re.compile(r"[0-9]{1,18}")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
BODILESS = frozenset({204, 304})


class Body(Protocol):
    """A body being read."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """(payload, what is left of `data` when the body is over, else None). Raises Malformed."""
        ...


class LengthBody:
    """So many bytes."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        size = len(data)
        if size < self.left:
            self.left -= size
            return data, None
        payload, rest = (data, b"") if size == self.left else (data[: self.left], data[self.left :])
        self.left = 0
        return payload, rest


class OpenBody:
    """All that comes until the connection ends."""

    __slots__ = ()

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        return data, None


class ChunkedBody:
    """The chunked coding; extensions and trailers are dropped."""

    __slots__ = ("_left", "_line", "_over", "_state", "_trailers")

    def __init__(self) -> None:
        self._line = b""
        self._left = 0
        self._state = self._size
        self._trailers = 0
        self._over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and not self._over:
            position = self._state(data, position, pieces)
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return payload, data[position:] if self._over else None

    def _take_line(self, data: bytes, position: int, limit: int) -> tuple[bytes | None, int]:
        """A whole line without its end, or None; and where to go on."""
        end = data.find(b"\n", position)
        self._line += data[position : end + 1 if end >= 0 else len(data)]
        if len(self._line) > limit:
            raise Malformed("a line of the chunked coding is too long")
        if end < 0:
            return None, len(data)
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise Malformed("malformed chunk: a line feed alone")
        return line[:-2], end + 1

    def _size(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        line, position = self._take_line(data, position, MAX_LINE)
        if line is not None:
            matched = _SIZE.fullmatch(line)
            if matched is None:
                raise Malformed("malformed size of a chunk")
            self._left = int(matched[1], 16)
            self._state = self._data if self._left else self._trailer
        return position

    def _data(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        piece = data[position : position + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = self._after
        return position + len(piece)

    def _after(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        line, position = self._take_line(data, position, 2)
        if line is not None:
            if line:
                raise Malformed("malformed chunk: longer than its size")
            self._state = self._size
        return position

    def _trailer(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        line, position = self._take_line(data, position, MAX_LINE)
        if line is None:
            return position
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            raise Malformed("the trailers are too long", 431)
        self._over = not line
        return position


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if _LENGTH.fullmatch(text) is None:
        raise Malformed("malformed Content-Length")
    return int(text)


def request_body(head: RequestHead) -> tuple[Body | None, int | None]:
    """(decoder, length): no decoder when there is no body, no length when it is chunked. Raises Malformed."""
    coding = head.headers.get("transfer-encoding")
    length = _length(head.headers)
    if coding is None:
        return (LengthBody(length), length) if length else (None, length)
    if length is not None:
        raise Malformed("both Content-Length and Transfer-Encoding")
    if not head.minor:
        raise Malformed("Transfer-Encoding in HTTP/1.0")
    if coding.lower() != "chunked":
        raise Malformed("unsupported Transfer-Encoding", 501)
    return ChunkedBody(), None


def response_body(head: ResponseHead, method: str) -> tuple[Body | None, int | None]:
    """Like `request_body`; an OpenBody ends with the connection. Raises Malformed."""
    coding = head.headers.get("transfer-encoding")
    length = _length(head.headers)
    if coding is not None and length is not None:
        raise Malformed("both Content-Length and Transfer-Encoding")
    if method == "HEAD" or head.status in BODILESS:
        return None, None if head.status == 204 else length
    if coding is not None:
        if coding.lower() != "chunked":
            raise Malformed("unsupported Transfer-Encoding")
        return ChunkedBody(), None
    if length is None:
        return OpenBody(), None
    return (LengthBody(length), length) if length else (None, 0)
