"""Bytes of a connection -> `Request`s, by httptools (llhttp).

`RequestReader` belongs to one connection of the server. It collects whole requests in `ready`, several of one read
when a client pipelines. What it will not accept it reports as `refused`, after the requests that came before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from urllib.parse import unquote

import httptools

from tiphys.base.http.types import Headers, Peer, Request

MAX_HEAD = 262144
"""Bytes of request line and header fields; beyond it 431."""
FRAMING = 8
"""Bytes on the wire for each byte of a body at most: chunks of one byte take six."""

_NAMES: dict[bytes, str] = {}
"""Header names seen, in lower case: the same few come with every request."""


@dataclass(slots=True)
class Exchange:
    """A request with what decides the form of its answer."""

    request: Request
    keep_alive: bool
    version: str
    upgrade: bool = False
    """The client offers to leave HTTP after the response."""


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    message: str


class _Refused(Exception):
    """Ends the parsing of a connection; `RequestReader.refused` says why."""


def header_name(name: bytes) -> str:
    """In lower case, as `types.Headers` wants it on requests."""
    known = _NAMES.get(name)
    if known is None:
        known = name.decode("latin-1").lower()
        if len(_NAMES) < 1024:
            _NAMES[name] = known
    return known


def add_header(headers: Headers, name: bytes, value: bytes) -> None:
    """A repeated field is joined by ', ' (RFC 9110, 5.3)."""
    key = header_name(name)
    text = value.decode("latin-1")
    headers[key] = f"{headers[key]}, {text}" if key in headers else text


class RequestReader:
    """See the module's docstring. The methods named on_* are httptools' callbacks."""

    __slots__ = (
        "_again", "_body", "_body_size", "_head_size", "_headers", "_in_body", "_max_body", "_offer", "_parser",
        "_repeated", "_url", "_wire_size", "peer", "ready", "refused", "rest", "started", "wants_continue",
    )  # fmt: skip

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._parser = httptools.HttpRequestParser(self)
        self.peer = Peer()
        self.ready: deque[Exchange] = deque()
        self.refused: Refusal | None = None
        self.rest: bytes | None = None
        """Bytes after the head of a request that offers an upgrade: of the new protocol, or of the next request."""
        self.wants_continue = False
        self._again: dict[str, list[str]] = {}
        """Of a request that is parsed a second time: its repeated fields, which the first time has joined."""
        self._offer: Headers = {}
        """Of a request with a body: the fields that offer an upgrade, which its parser must not see."""
        self._clear()

    def _clear(self) -> None:
        self._url = b""
        self._headers: Headers = {}
        self._repeated: dict[str, list[str]] = {}
        self._body: list[bytes] = []
        self._body_size = self._head_size = self._wire_size = 0
        self.started = self._in_body = False

    @property
    def in_body(self) -> bool:
        return self._in_body

    def close(self) -> None:
        """Nothing more comes: let go of the parser, which holds us in turn."""
        del self._parser

    def feed(self, data: bytes) -> None:
        """Parse `data`; look at `ready`, `refused`, `rest` and `wants_continue` afterwards."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._offered(data[offer.args[0] :])
            return
        except httptools.HttpParserError as error:
            if self.refused is None:
                self.refused = Refusal(400, f"malformed request: {error}")
            return
        if self.started and not self._in_body:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self.refused = Refusal(431, f"the request's head is larger than {MAX_HEAD} bytes")
        elif self._in_body:
            self._wire_size += len(data)
            if self._wire_size > FRAMING * self._max_body + MAX_HEAD:
                self.refused = Refusal(413, "Request entity too large: its framing is")

    def _offered(self, rest: bytes) -> None:
        """The parser stops at the head of a request that offers an upgrade and takes its body for the new protocol;
        a body that was announced is read before (RFC 9110, 7.8), or it would pass for the next request."""
        headers = self.ready[-1].request.headers
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            self.ready[-1].upgrade = True
            self.rest = rest
            return
        request = self.ready.pop().request
        self._again = dict(request.repeated)
        self._offer = {name: headers.pop(name) for name in ("connection", "upgrade") if name in headers}
        target = f"{request.raw_path}?{request.query_string}" if request.query_string else request.raw_path
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._parser = httptools.HttpRequestParser(self)
        self.feed("\r\n".join([*lines, "", ""]).encode("latin-1") + rest)

    def next_protocol(self) -> bytes:
        """The bytes that belong to the protocol after the upgrade."""
        rest, self.rest = self.rest or b"", None
        return rest

    def decline_upgrade(self) -> None:
        """Go on with HTTP after a request that offered an upgrade."""
        rest = self.next_protocol()
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self.feed(rest)

    def _refuse(self, status: int, message: str) -> None:
        self.refused = Refusal(status, message)
        raise _Refused

    def on_message_begin(self) -> None:
        self._clear()
        self.started = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer: nobody has checked it, so it must not pass for a header (RFC 9110, 6.5.1)
            self._head_size += len(name) + len(value)
            if self._head_size > MAX_HEAD:
                self._refuse(431, f"the request's trailers are larger than {MAX_HEAD} bytes")
            return
        headers, key = self._headers, _NAMES.get(name) or header_name(name)
        if key not in headers:
            headers[key] = value.decode("latin-1")
            return
        if key == "host":
            self._refuse(400, "too many Host headers")
        self._repeated.setdefault(key, [headers[key]]).append(value.decode("latin-1"))
        add_header(headers, name, value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        headers = self._headers
        if "host" not in headers and self._parser.get_http_version() == "1.1":
            self._refuse(400, "missing required Host header")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body:
            self._too_large()
        if headers.get("expect", "").lower() == "100-continue" and length != "0":
            self.wants_continue = True

    def _too_large(self) -> None:
        self._refuse(413, f"Request entity too large: limit is {self._max_body}")

    def on_body(self, body: bytes) -> None:
        self.wants_continue = False
        self._body_size += len(body)
        if self._body_size > self._max_body:
            self._too_large()
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        self.wants_continue = False
        target = self._url.decode("latin-1")
        if target[:1] != "/":
            target = _origin_form(self._url)
        raw_path, _, query = target.partition("?")
        if self._offer:
            self._headers.update(self._offer)
            self._offer = {}
        if self._again:
            self._repeated, self._again = self._again, {}
        request = Request(
            parser.get_method().decode(),
            unquote(raw_path) if "%" in raw_path else raw_path,
            query,
            self._headers,
            self._body[0] if len(self._body) == 1 else b"".join(self._body),
            self.peer,
            raw_path,
            repeated=self._repeated,
        )
        self.ready.append(Exchange(request, parser.should_keep_alive(), parser.get_http_version()))
        self._clear()


def _origin_form(url: bytes) -> str:
    """The path and query of an absolute-form target (RFC 9112, 3.2.2); others (*, authority) as they are."""
    if b"://" not in url:
        return url.decode("latin-1")
    parsed = httptools.parse_url(url)
    path = (parsed.path or b"/").decode("latin-1")
    return f"{path}?{parsed.query.decode('latin-1')}" if parsed.query else path
