"""Heads of HTTP/1.1 messages: bytes -> fields, strictly, since two readers who disagree let requests be smuggled.

Not by httptools as elsewhere: a proxy passes fields on in their order and spelling, wants a head whole, and must refuse
what llhttp forgives (folded lines, bare line feeds, both framings at once). Sources: RFC 9112, RFC 9110.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

END = b"\r\n\r\n"
MAX_HEAD = 65536
"""Bytes of a start line and fields."""
MAX_FIELDS = 256

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n|\n[ \t]")
"""Control characters, line ends that are none, folded lines."""
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (.*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?")
_NAMES: dict[str, str] = {}
"""Valid field names seen, in lower case."""


class Malformed(Exception):
    """The message is refused; `status` is what its sender is told."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


Fields = list[tuple[str, str]]
"""(name in lower case, the whole line as it came, without its end)."""


@dataclass(slots=True)
class RequestHead:
    method: str
    target: str
    """In origin form: path and query as they came."""
    minor: int
    """The minor version: HTTP/1.0 or 1.1."""
    host: str
    """As the client gave it, with a port perhaps."""
    fields: Fields
    headers: dict[str, str]
    """Values by name; those of repeated fields joined by ', '."""
    path: str = ""
    query: str = ""

    @property
    def hostname(self) -> str:
        """The host in lower case, without port, brackets kept."""
        return hostname(self.host)


@dataclass(slots=True)
class ResponseHead:
    status: int
    reason: str
    minor: int
    fields: Fields
    headers: dict[str, str] = field(default_factory=dict)


def hostname(host: str) -> str:
    """Lower case, without a port and the dot of the root."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


def parse_request(head: bytes) -> RequestHead:
    """`head` without its empty line. Raises Malformed."""
    text = head.decode("latin-1")
    line, lines = _lines(text)
    matched = _REQUEST.fullmatch(line)
    if matched is None:
        raise Malformed("malformed request line")
    method, target, minor = matched[1], matched[2], int(matched[3])
    fields, headers = _fields(lines)
    host = headers.get("host")
    if target[0] != "/":
        target, host = _other_form(method, target, host)
    if host is None:
        if minor:
            raise Malformed("missing required Host header")
        host = ""
    elif _HOST.fullmatch(host) is None:
        raise Malformed("malformed Host header")
    path, _, query = target.partition("?")
    return RequestHead(method, target, minor, host, fields, headers, path, query)


def parse_response(head: bytes) -> ResponseHead:
    """`head` without its empty line. Raises Malformed."""
    line, lines = _lines(head.decode("latin-1"))
    matched = _STATUS.fullmatch(line)
    if matched is None:
        raise Malformed("malformed status line")
    fields, headers = _fields(lines)
    return ResponseHead(int(matched[2]), matched[3] or "", int(matched[1]), fields, headers)


def _lines(text: str) -> tuple[str, list[str]]:
    plain = text.replace("\r\n", "")
    if not (plain.isascii() and plain.isprintable()) and (bad := _BAD.search(text)) is not None:
        what = {"\r": "a carriage return alone", "\n": "a line feed alone or a folded line"}.get(bad[0][0], "a control")
        raise Malformed(f"malformed head: {what} in it")
    line, *lines = text.split("\r\n")
    if len(lines) > MAX_FIELDS:
        raise Malformed(f"more than {MAX_FIELDS} fields", 431)
    return line, lines


def _fields(lines: list[str]) -> tuple[Fields, dict[str, str]]:
    fields: Fields = []
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        lower = _NAMES.get(name) or _checked(name)
        if not colon:
            raise Malformed("malformed header field: no colon")
        value = value.strip(" \t")
        fields.append((lower, line))
        if lower not in headers:
            headers[lower] = value
        elif lower == "host":
            raise Malformed("too many Host headers")
        else:
            headers[lower] = f"{headers[lower]}, {value}" if lower != "cookie" else f"{headers[lower]}; {value}"
    return fields, headers


def _checked(name: str) -> str:
    if _TOKEN.fullmatch(name) is None:
        raise Malformed("malformed name of a header field")
    lower = name.lower()
    if len(_NAMES) < 4096:
        _NAMES[name] = lower
    return lower


def _other_form(method: str, target: str, host: str | None) -> tuple[str, str | None]:
    """Absolute form names the host itself (RFC 9112, 3.2.2); of the others only `*` for OPTIONS is for us."""
    if target == "*" and method == "OPTIONS":
        return target, host
    scheme, mark, rest = target.partition("://")
    if method == "CONNECT" or not mark or scheme.lower() not in ("http", "https"):
        raise Malformed("this is no forward proxy", 400)
    end = min((place for place in (rest.find("/"), rest.find("?")) if place >= 0), default=len(rest))
    authority, origin = rest[:end], rest[end:]
    if "@" in authority or not authority:
        raise Malformed("malformed request target")
    return origin if origin.startswith("/") else f"/{origin}", authority


def connection_options(headers: dict[str, str]) -> frozenset[str]:
    """What the Connection field names, in lower case."""
    value = headers.get("connection")
    if not value:
        return frozenset()
    return frozenset(part.strip().lower() for part in value.split(","))
