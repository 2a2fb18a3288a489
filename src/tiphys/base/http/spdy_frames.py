"""The frames of SPDY/3.1 as bytes, and header blocks through their zlib streams (SPDY Protocol Draft 3.1)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

VERSION = 3
MAX_FRAME = 1 << 20
"""Bytes of one frame that we accept; the peers we know send 32 KiB at most."""
MAX_HEADERS = 65536
"""Bytes of one header block, unpacked."""
FIN = 0x01
INITIAL_WINDOW = 65536


class Kind(IntEnum):
    """Control frame types."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Reset(IntEnum):
    """Why a stream was reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    CANCEL = 5
    INTERNAL_ERROR = 6


SETTINGS_INITIAL_WINDOW = 7


class SpdyError(ConnectionError):
    """The peer broke the protocol; the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `kind` 0 is data, for `stream`."""

    kind: int
    stream: int
    flags: int
    payload: bytes


def data_frame(stream: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream, flags << 24 | len(data)) + data


def control_frame(kind: Kind, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def syn_stream(stream: int, block: bytes) -> bytes:
    return control_frame(Kind.SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + block)


def syn_reply(stream: int, block: bytes) -> bytes:
    return control_frame(Kind.SYN_REPLY, struct.pack(">I", stream) + block)


def rst_stream(stream: int, reason: Reset) -> bytes:
    return control_frame(Kind.RST_STREAM, struct.pack(">II", stream, reason))


def window_update(stream: int, delta: int) -> bytes:
    return control_frame(Kind.WINDOW_UPDATE, struct.pack(">II", stream, delta))


def word(payload: bytes, index: int) -> int:
    """The `index`th 32-bit number without its top bit. Raises SpdyError when the payload is too short."""
    if len(payload) < 4 * index + 4:
        raise SpdyError("truncated frame")
    number: int = struct.unpack_from(">I", payload, 4 * index)[0]
    return number & 0x7FFFFFFF


class FrameReader:
    """Bytes in, frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises SpdyError."""
        buffer = self._buffer
        buffer += data
        frames = []
        position = 0
        while len(buffer) - position >= 8:
            first, second = struct.unpack_from(">II", buffer, position)
            length = second & 0xFFFFFF
            if length > MAX_FRAME:
                raise SpdyError(f"frame of {length} bytes")
            if len(buffer) - position < 8 + length:
                break
            payload = bytes(buffer[position + 8 : position + 8 + length])
            position += 8 + length
            frames.append(self._frame(first, second >> 24, payload))
        del buffer[:position]
        return frames

    def _frame(self, first: int, flags: int, payload: bytes) -> Frame:
        if not first & 0x80000000:
            return Frame(0, first, flags, payload)
        if first >> 16 & 0x7FFF != VERSION:
            raise SpdyError(f"SPDY version {first >> 16 & 0x7FFF} is not 3")
        return Frame(first & 0xFFFF, 0, flags, payload)


_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age "
    "allow authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def dictionary() -> bytes:
    """The protocol's zlib dictionary (2.6.10.1): each word with its length before it, then running text."""
    words = (item.replace("_", " ").encode() for item in _WORDS.split())
    return b"".join(struct.pack(">I", len(item)) + item for item in words) + _TEXT.encode()


class HeaderCodec:
    """Header blocks of one connection: one zlib stream each way, so every block must pass through here in order."""

    def __init__(self) -> None:
        known = dictionary()
        self._deflate = zlib.compressobj(zdict=known)
        self._inflate = zlib.decompressobj(zdict=known)

    def pack(self, headers: Mapping[str, str]) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (struct.pack(">I", len(text)), text)
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def unpack(self, block: bytes) -> dict[str, str]:
        """Names in lower case; of a repeated field (values joined by NUL) the first value. Raises SpdyError."""
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"header block: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"header block is larger than {MAX_HEADERS} bytes")
        texts = _strings(plain)
        return {
            name.decode("latin-1").lower(): value.partition(b"\0")[0].decode("utf-8", "replace")
            for name, value in zip(texts[::2], texts[1::2], strict=True)
        }


def _strings(plain: bytes) -> list[bytes]:
    """All names and values of a header block, alternating."""
    try:
        (count,) = struct.unpack_from(">I", plain, 0)
        position = 4
        texts = []
        for _ in range(2 * count):
            (length,) = struct.unpack_from(">I", plain, position)
            text = plain[position + 4 : position + 4 + length]
            if len(text) != length:
                raise SpdyError("truncated header block")
            texts.append(text)
            position += 4 + length
    except struct.error as error:
        raise SpdyError("truncated header block") from error
    return texts
