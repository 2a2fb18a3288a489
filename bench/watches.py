"""Many watches of one resource: how fast an event reaches all of them.

Used by `apiserver.py`. Every stream has a TLS connection of its own. The client runs on the same cores as the server,
so the server's CPU time for one event on one stream says more than the rate.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from servers import CLOCK, Target, unverified

MARK = b'"MODIFIED"'
LENGTH = re.compile(rb"content-length: (\d+)")


class Poster:
    """Sends requests with JSON bodies over one connection, one after the other."""

    def __init__(self, target: Target) -> None:
        self._target = target
        parts = urlsplit(target.url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 443
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: object) -> int:
        """Returns the status."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=unverified())
        reader, writer = self._streams
        data = json.dumps(body).encode()
        writer.write(_head(self._target, method, path, len(data)) + data)
        head = await reader.readuntil(b"\r\n\r\n")
        if length := LENGTH.search(head.lower()):
            await reader.readexactly(int(length[1]))
        else:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def _head(target: Target, method: str, path: str, length: int) -> bytes:
    host = urlsplit(target.url).netloc
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {target.token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


class Tally:
    """Events that all streams together have seen."""

    def __init__(self) -> None:
        self.open = self.seen = 0
        self._goal = 0
        self._reached: asyncio.Future[None] | None = None

    def count(self, events: int) -> None:
        self.seen += events
        if self._reached is not None and self.seen >= self._goal and not self._reached.done():
            self._reached.set_result(None)

    async def reach(self, goal: int) -> None:
        """Wait until so many were seen."""
        if self.seen < goal:
            self._goal, self._reached = goal, asyncio.get_running_loop().create_future()
            async with asyncio.timeout(120):
                await self._reached


class Stream(asyncio.Protocol):
    """One watch."""

    def __init__(self, target: Target, path: str, tally: Tally) -> None:
        self._request, self._tally = _head(target, "GET", path, 0), tally
        self._tail = b""
        self._opened = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)  # uvloop's is one, though it does not say so

    def data_received(self, data: bytes) -> None:
        if not self._opened:
            self._opened = True
            self._tally.open += 1
        data = self._tail + data
        found = data.count(MARK)
        rest = data.rfind(MARK) + len(MARK) if found else 0
        self._tail = data[max(rest, len(data) - len(MARK) + 1) :]
        if found:
            self._tally.count(found)


@dataclass(frozen=True)
class FanOut:
    """What came of it; rates are of events that reached every stream."""

    one_by_one: float
    at_once: float
    cpu_microseconds: float
    """Of the server, for one event on one stream, when many are written at once."""


async def fan_out(target: Target, streams: int, cpu: Any) -> FanOut:
    """Open `streams` watches of one namespace and change ConfigMaps of 2 KB in it. `cpu()` gives the server's CPU
    seconds."""
    poster, tally = Poster(target), Tally()
    path = "/api/v1/namespaces/default/configmaps"
    for number in range(8):
        await poster.send("POST", path, _config_map(number, 0))
    watched = f"{path}?watch=1&resourceVersion=0"
    transports = await _open(target, streams, watched, tally)
    try:
        return await _measure(target, poster, tally, streams, cpu)
    finally:
        for transport in transports:
            transport.close()
        poster.close()


async def _open(target: Target, streams: int, path: str, tally: Tally) -> list[asyncio.BaseTransport]:
    loop, context, parts = asyncio.get_running_loop(), unverified(), urlsplit(target.url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 443
    transports: list[asyncio.BaseTransport] = []
    for _ in range(0, streams, 20):
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: Stream(target, path, tally), host, port, ssl=context)
                for _ in range(min(20, streams - len(transports)))
            )
        )
        transports += [transport for transport, _ in made]
    while tally.open < streams:
        await CLOCK.sleep(0.05)
    await CLOCK.sleep(0.5)
    return transports


async def _measure(target: Target, poster: Poster, tally: Tally, streams: int, cpu: Any) -> FanOut:
    path = "/api/v1/namespaces/default/configmaps/watched-"
    begin, alone = CLOCK.monotonic(), 20
    for number in range(1, alone + 1):
        await poster.send("PUT", f"{path}0", _config_map(0, number))
        await tally.reach(number * streams)
    one_by_one = alone / (CLOCK.monotonic() - begin)
    posters, rounds = [Poster(target) for _ in range(8)], 20

    async def change(which: int) -> None:
        for number in range(rounds):
            await posters[which].send("PUT", f"{path}{which}", _config_map(which, 1000 + number))
        posters[which].close()

    before, used, begin = tally.seen, cpu(), CLOCK.monotonic()
    await asyncio.gather(*(change(which) for which in range(8)))
    await tally.reach(before + 8 * rounds * streams)
    seconds, used = CLOCK.monotonic() - begin, cpu() - used
    return FanOut(one_by_one, 8 * rounds / seconds, used * 1e6 / (8 * rounds * streams))


def _config_map(number: int, change: int) -> dict[str, object]:
    data = {"change": str(change), "rest": "x" * 1700}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"watched-{number}"}, "data": data}
