"""A proxy on the loopback address with backends that tests write themselves, and clients that send any bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import uvloop

from tiphys.base.clock import SystemClock
from tiphys.gateway.model import ANY_PATH, BackendKey, Listener, Match, Policy, Route, Target
from tiphys.gateway.proxy.fronts import Front
from tiphys.gateway.proxy.server import Proxy, running

KEY: BackendKey = ("default", "web", "80")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPBACK = "127.0.0.1"


def run(scenario: Coroutine[Any, Any, None], seconds: float = 20.0) -> None:
    """On uvloop, as the gateway's process does."""

    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await scenario

    uvloop.run(limited())


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def fields_of(head: bytes) -> dict[str, str]:
    """Fields of a head, names in lower case."""
    pairs = (line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return {name.decode().lower(): value.strip().decode("latin-1") for name, value in pairs}


def answering(body: bytes = b"hello", head: str = "HTTP/1.1 200 OK\r\n", seen: list[bytes] | None = None) -> Serve:
    """A backend that answers each request without a body alike, and notes what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_head(reader)
            length = int(fields_of(request).get("content-length", "0"))
            request += await reader.readexactly(length)
            if seen is not None:
                seen.append(request)
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            writer.write(b"" if request.startswith(b"HEAD") else body)

    return serve


@contextlib.asynccontextmanager
async def backend(serve: Serve, address: str = LOOPBACK) -> AsyncIterator[int]:
    """The port on which `serve` is asked; what breaks off is no error."""
    closing = False

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # the last is uvloop's for a closed one
            pass
        finally:
            if not closing:
                writer.close()

    server = await asyncio.start_server(guarded, address, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        closing = True
        server.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def route(policy: Policy | None = None, **more: Any) -> Route:
    """To the backend KEY, for every path."""
    return Route(Match(ANY_PATH), (Target(KEY),), policy=policy or Policy(), **more)


@contextlib.asynccontextmanager
async def proxying(
    *routes: Route, ports: tuple[int, ...] | Mapping[BackendKey, tuple[int, ...]] = (), host: str = ""
) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy with these routes, and the port on which it listens."""
    endpoints = ports if isinstance(ports, Mapping) else {KEY: ports}
    async with running(SystemClock(), grace=0.1) as proxy:
        front = Front(proxy, 60000, None)
        front.listen([LOOPBACK])
        front.tables = ((Listener(60000, routes={host: routes or (route(),)}, one_label=True),),)
        proxy.backends.set({key: [(LOOPBACK, port) for port in found] for key, found in endpoints.items()})
        try:
            yield proxy, front.bound
        finally:
            front.close()


async def talk(port: int, data: bytes, *, eof: bool = False) -> bytes:
    """Send and read until the other side closes."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(data)
        if eof:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(path: str = "/", method: str = "GET", *fields: str, body: bytes = b"", close: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: example.com", *fields, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def ask(
    port: int, path: str = "/", method: str = "GET", *fields: str, body: bytes = b""
) -> tuple[int, bytes, bytes]:
    """(status, head, body) of one request on a connection of its own."""
    answer = await talk(port, request(path, method, *fields, body=body))
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, head + b"\r\n", rest
