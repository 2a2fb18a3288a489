"""The heads that the proxy writes: requests to backends, responses to clients. Pure.

What belongs to one connection only is left out (RFC 9110, 7.6.1). The client is told to the backend as ingress-nginx
does without trusted proxies: X-Forwarded-For is who connected to us, what came in it moves to
X-Original-Forwarded-For.
"""

from __future__ import annotations

import http
from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.gateway.model import HeaderChanges
from tiphys.gateway.proxy.heads import Fields, RequestHead, ResponseHead, connection_options

_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)
_REQUEST_DROPS = _HOP | {
    "host",
    "proxy",  # CGI programs take it for a setting (httpoxy)
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-original-forwarded-for",
    "x-real-ip",
    "x-request-id",
    "x-scheme",
}
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, and where."""

    address: str
    port: int
    """Where the client sees us."""
    tls: bool


def phrase(status: int) -> str:
    return _PHRASES.get(status, "")


def request_head(
    head: RequestHead,
    client: Client,
    *,
    target: str,
    host: str,
    request_id: str,
    length: int | None,
    chunked: bool,
    upgrade: bool,
    changes: HeaderChanges,
) -> bytes:
    """The head that goes to a backend."""
    headers = head.headers
    drop = _REQUEST_DROPS
    if "connection" in headers:
        drop = drop | (connection_options(headers) - {"upgrade"})
    scheme = "https" if client.tls else "http"
    lines = [
        f"{head.method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-ID: {request_id}\r\n"
        f"X-Real-IP: {client.address}\r\nX-Forwarded-For: {client.address}\r\nX-Forwarded-Host: {head.host}\r\n"
        f"X-Forwarded-Port: {client.port}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Scheme: {scheme}\r\n"
        f"X-Scheme: {scheme}"
    ]
    if "x-forwarded-for" in headers:
        lines.append(f"X-Original-Forwarded-For: {headers['x-forwarded-for']}")
    lines += _changed(head.fields, drop, changes)
    if upgrade:
        lines.append(f"Connection: Upgrade\r\nUpgrade: {headers['upgrade']}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length is not None:
        lines.append(f"Content-Length: {length}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace")


def response_head(
    head: ResponseHead,
    *,
    length: int | None,
    chunked: bool,
    close: bool,
    changes: HeaderChanges,
    extra: Iterable[str] = (),
) -> bytes:
    """The head that goes to the client; `extra` are whole lines."""
    drop = _HOP
    if "connection" in head.headers:
        drop = drop | connection_options(head.headers)
    lines = [f"HTTP/1.1 {head.status} {head.reason or phrase(head.status)}", *_changed(head.fields, drop, changes)]
    lines += extra
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length is not None:
        lines.append(f"Content-Length: {length}")
    if close:
        lines.append("Connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace")


def switching_head(head: ResponseHead) -> bytes:
    """The 101 that a backend gave, for the client."""
    lines = [line for name, line in head.fields if name not in _HOP]
    upgrade = head.headers.get("upgrade", "")
    lines = [f"HTTP/1.1 101 {phrase(101)}", *lines, "Connection: Upgrade", f"Upgrade: {upgrade}", "\r\n"]
    return "\r\n".join(lines).encode("latin-1", "replace")


def interim_head(head: ResponseHead) -> bytes:
    lines = [line for name, line in head.fields if name not in _HOP]
    return "\r\n".join([f"HTTP/1.1 {head.status} {head.reason}", *lines, "\r\n"]).encode("latin-1", "replace")


def _changed(fields: Fields, drop: frozenset[str] | set[str], changes: HeaderChanges) -> list[str]:
    if not changes:
        return [line for name, line in fields if name not in drop]
    values = {name.lower(): value for name, value in fields_of(fields)}
    drop = drop | {name.lower() for name in changes.remove} | {name.lower() for name, _ in changes.set}
    added: dict[str, tuple[str, list[str]]] = {}
    for name, value in changes.add:
        lower = name.lower()
        added.setdefault(lower, (name, [] if lower not in values or lower in drop else [values[lower]]))[1].append(
            value
        )
    drop = drop | set(added)
    lines = [line for name, line in fields if name not in drop]
    for name, value in changes.set:
        if name.lower() not in added:
            lines.append(f"{name}: {value}")
    for lower, (name, texts) in added.items():
        before = [value for other, value in changes.set if other.lower() == lower]
        lines.append(f"{name}: {','.join(before + texts)}")
    return lines


def fields_of(fields: Fields) -> Iterable[tuple[str, str]]:
    """(name in lower case, value), repeated ones joined by commas as one value each."""
    joined: dict[str, str] = {}
    for name, line in fields:
        value = line.partition(":")[2].strip(" \t")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined.items()


def answer(
    status: int, fields: Iterable[tuple[str, str]], body: bytes, *, close: bool, bodiless: bool = False
) -> bytes:
    """An answer of our own."""
    lines = [f"HTTP/1.1 {status} {phrase(status)}", *(f"{name}: {value}" for name, value in fields)]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    lines.append("\r\n")
    head = "\r\n".join(lines).encode("latin-1", "replace")
    return head if bodiless else head + body
