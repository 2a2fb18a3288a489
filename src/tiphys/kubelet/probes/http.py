"""One HTTP GET as probes and lifecycle hooks make it: no proxy, no certificate check, few redirects.

A connection of its own for each, as upstream; nothing of the answer beyond 10 KiB is read.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from tiphys.kubelet.probes.dialing import Dial, open_streams

_BODY_LIMIT = 10 * 1024
_HEAD_LIMIT = 64 * 1024
_REDIRECTS = 10


class RequestFailed(Exception):
    """No answer; the message is like Go's, as users know it from events."""


class PlainAnswer(RequestFailed):
    """The server was asked by TLS and does not speak it."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str
    redirected_away: bool = False
    """A redirect to another host, which is not followed."""


@dataclass(frozen=True, slots=True)
class Get:
    """What to ask for; `headers` as the API has them (name, value)."""

    url: str
    headers: Sequence[Mapping[str, Any]] = ()
    purpose: str = "probe"


def target(action: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, purpose: str) -> Get:
    """The request of an httpGet action. Raises ValueError for a port name that the container does not have."""
    host = str(action.get("host") or pod_ip)
    port = resolve_port(action["port"], container)
    shown = f"[{host}]" if ":" in host else host
    path = str(action.get("path") or "")
    path = path if path.startswith("/") or not path else f"/{path}"
    scheme = str(action.get("scheme") or "HTTP").lower()
    return Get(f"{scheme}://{shown}:{port}{path}", action.get("httpHeaders") or (), purpose)


def resolve_port(port: Any, container: Mapping[str, Any]) -> int:
    """A port's number, by name if need be. Raises ValueError."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for known in container.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    raise ValueError(f"couldn't find port: {port!r}")


async def get(request: Get, timeout: float | None, dial: Dial | None = None) -> Answer:
    """The final answer. Raises RequestFailed; `timeout` in seconds (None: no limit) covers redirects too."""
    try:
        async with asyncio.timeout(timeout):
            return await _follow(request, dial)
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise RequestFailed(f'Get "{request.url}": {why}') from None


async def _follow(request: Get, dial: Dial | None) -> Answer:
    origin = urlsplit(request.url)
    url = request.url
    for _ in range(_REDIRECTS):
        answer = await _once(urlsplit(url), request, dial)
        location = answer.headers.get("location")
        if answer.status not in (301, 302, 303, 307, 308) or not location:
            return answer
        url = urljoin(url, location)
        if urlsplit(url).hostname != origin.hostname:
            return Answer(answer.status, answer.headers, answer.body, redirected_away=True)
    raise RequestFailed(f'Get "{url}": stopped after 10 redirects')


async def _once(url: SplitResult, request: Get, dial: Dial | None) -> Answer:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        tls = _unchecked_tls() if url.scheme == "https" else None
        reader, writer = await open_streams(dial, url.hostname or "", port, tls, _HEAD_LIMIT)
    except OSError as error:
        raise _unreachable(url, error) from error
    try:
        writer.write(_head(url, request))
        return await _read(reader)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise RequestFailed(f'Get "{url.geturl()}": {reason(error)}') from error
    finally:
        writer.transport.abort()


def _unreachable(url: SplitResult, error: OSError) -> RequestFailed:
    tls = getattr(error, "reason", None)  # of ssl.SSLError, a module that is loaded for https only
    if tls == "WRONG_VERSION_NUMBER":
        return PlainAnswer(f'Get "{url.geturl()}": http: server gave HTTP response to HTTPS client')
    if tls:
        return RequestFailed(f'Get "{url.geturl()}": tls: {tls}')
    return RequestFailed(f'Get "{url.geturl()}": dial tcp {url.netloc}: connect: {reason(error)}')


def reason(error: Exception) -> str:
    """The errno's text in lower case, as Go prints it."""
    if isinstance(error, asyncio.IncompleteReadError):
        return "EOF"
    if isinstance(error, OSError) and error.strerror:
        return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror
    return str(error)


def _head(url: SplitResult, request: Get) -> bytes:
    headers: dict[str, str] = {"host": url.netloc, "user-agent": f"kube-{request.purpose}/1.36", "accept": "*/*"}
    names = {"host": "Host", "user-agent": "User-Agent", "accept": "Accept"}
    for header in request.headers:
        name = str(header["name"])
        if not str(header.get("value") or "").isprintable():
            raise ValueError(f"net/http: invalid header field value for {json.dumps(name)}")
        names[name.lower()] = name
        headers[name.lower()] = str(header.get("value") or "")
    if not headers["accept"]:
        del headers["accept"]
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"GET {path} HTTP/1.1", *(f"{names[name]}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    version, code, *_ = [*first.split(" ", 2), ""]
    if not version.startswith("HTTP/") or not code.isdigit():
        raise ValueError(f'malformed HTTP response "{first}"')
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b"" if code == "204" else await _body(reader, headers)
    return Answer(int(code), headers, body.decode(errors="replace"))


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    length = headers.get("content-length", "")
    wanted = min(int(length), _BODY_LIMIT) if length.isdigit() else _BODY_LIMIT
    data = b""
    while len(data) < wanted and (chunk := await reader.read(wanted - len(data))):
        data += chunk
    return data


def _unchecked_tls() -> Any:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
