"""`Response` -> bytes: heads, chunks, and the answers that the transport itself gives."""

from __future__ import annotations

import http
import json

from tiphys.base.errors import ApiError, InternalError
from tiphys.base.http.types import Headers, Response

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in http.HTTPStatus}
_BODILESS = frozenset({204, 304})


def head(status: int, headers: Headers, length: int | None, *, framing: str = "") -> bytes:
    """Status line and header fields. `length` adds Content-Length; `framing` is inserted as it is (whole lines).

    Raises ValueError for a field that would break out of its line.
    """
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\n") != len(headers) or fields.count("\r") != len(headers):
        raise ValueError(f"a header contains a line break: {headers!r}")
    if length is not None and "content-length" in fields.lower() and _names_length(headers):
        length = None
    parts = [_LINES.get(status) or f"HTTP/1.1 {status} \r\n", fields]
    if length is not None and status not in _BODILESS:
        parts.append(f"content-length: {length}\r\n")
    parts.append(framing)
    parts.append("\r\n")
    return "".join(parts).encode("latin-1", "replace")


def _names_length(headers: Headers) -> bool:
    return any(name.lower() == "content-length" for name in headers)


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked transfer coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def failure(error: Exception) -> Response:
    """The answer for a handler's error: an ApiError's Status; for others 500 and no word about the inside."""
    if not isinstance(error, ApiError):
        error = InternalError("Internal error occurred")
    headers = {"Content-Type": "application/json"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return Response(error.code, headers, json.dumps(error.status(), separators=(",", ":")).encode())


def plain(status: int, message: str) -> Response:
    """A short text, for what goes wrong before any handler is asked."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{message}\n".encode())
