"""port-forward over WebSocket channels: for the i-th port, channel 2i is its data, 2i + 1 its errors.

The first message on each channel is the port's number, two bytes, little-endian.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from tiphys.base.errors import BadRequest, TiphysError
from tiphys.base.http.duplex import relay
from tiphys.base.http.types import Duplex, Request
from tiphys.base.http.websocket import WebSocket
from tiphys.kubelet.streaming.channels import ChannelSocket

WS_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
_QUEUE = 64
"""Messages kept for a connection that takes them slowly; then all of the client's wait."""


def parse_ports(request: Request) -> tuple[int, ...]:
    """Those of the query: port=80&port=443, ports=80,443. Raises BadRequest."""
    values = request.query.get("port", []) + request.query.get("ports", [])
    if not values:
        raise BadRequest('query parameter "port" is required')
    ports = []
    for text in ",".join(values).split(","):
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise BadRequest(f'unable to parse "{text}" as a port')
        ports.append(int(text))
    if len(ports) > 127:
        raise BadRequest(f"{len(ports)} ports do not fit into one connection")
    return tuple(ports)


class _ChannelDuplex:
    """One data channel as a Duplex."""

    half_closes = False

    def __init__(self, channels: ChannelSocket, number: int) -> None:
        self._channels = channels
        self.number = number
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        self._rest = b""
        self._closed = False

    async def deliver(self, data: bytes) -> None:
        """From the WebSocket; b"" is the end."""
        if not self._closed:
            await self._queue.put(data)

    async def read(self, limit: int = 65536) -> bytes:
        data = self._rest or await self._queue.get()
        data, self._rest = data[:limit], data[limit:]
        return data

    async def write(self, data: bytes) -> None:
        await self._channels.send(self.number, data)

    async def write_eof(self) -> None:
        """The protocol has no word for it: `relay` closes instead."""

    async def close(self) -> None:
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(b"")


async def serve_channels(socket: WebSocket, ports: Sequence[int], dial: Callable[[int], Awaitable[Duplex]]) -> None:
    """Forward until the client goes or every connection has ended."""
    channels = ChannelSocket(socket)
    ends = [_ChannelDuplex(channels, 2 * index) for index in range(len(ports))]
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await channels.send(channel, port.to_bytes(2, "little"))
    async with asyncio.TaskGroup() as group:
        receiving = group.create_task(_receive(channels, ends))
        async with asyncio.TaskGroup() as connections:
            for end, port in zip(ends, ports, strict=True):
                connections.create_task(_connect(channels, end, port, dial))
        receiving.cancel()


async def _receive(channels: ChannelSocket, ends: Sequence[_ChannelDuplex]) -> None:
    while (message := await channels.recv()) is not None:
        number, data = message
        if number % 2 == 0 and number // 2 < len(ends) and data:
            await ends[number // 2].deliver(data)
    for end in ends:
        await end.deliver(b"")


async def _connect(
    channels: ChannelSocket, end: _ChannelDuplex, port: int, dial: Callable[[int], Awaitable[Duplex]]
) -> None:
    try:
        target = await dial(port)
    except (OSError, TiphysError) as error:
        with contextlib.suppress(OSError):
            await channels.send(end.number + 1, f"error forwarding port {port}: {error}".encode())
        return
    await relay(end, target)
