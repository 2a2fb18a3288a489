"""port-forward: connections to ports of a pod, many at once, over SPDY, SPDY inside WebSocket, or channels.

Over SPDY each connection is a pair of streams, `data` and `error`, of one requestID. Over WebSocket channels
(v4.channel.k8s.io) the ports are in the query, with one connection each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tiphys.base.errors import ApiError, TiphysError
from tiphys.base.http import websocket
from tiphys.base.http.duplex import relay
from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.base.http.types import Duplex, Request, Response, is_websocket
from tiphys.kubelet.streaming.forwardchannels import WS_PROTOCOLS, parse_ports, serve_channels
from tiphys.kubelet.streaming.handshake import negotiate, refuse, switch

_log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"

Dial = Callable[[int], Awaitable[Duplex]]
"""A connection to a port inside the pod. Raises OSError or TiphysError."""


def serve_port_forward(request: Request, dial: Dial) -> Response:
    """The response that upgrades and forwards until the client goes."""
    if not is_websocket(request):
        chosen = negotiate(request, (PROTOCOL,))
        return chosen if isinstance(chosen, Response) else switch(chosen, lambda duplex: forward(duplex, dial))
    try:
        if TUNNEL in websocket.offered(request):
            return websocket.accept(request, (TUNNEL,), lambda socket: forward(websocket.MessageDuplex(socket), dial))
        ports = parse_ports(request)
        return websocket.accept(request, WS_PROTOCOLS, lambda socket: serve_channels(socket, ports, dial))
    except ApiError as error:
        return refuse(error.code, error.message)


@dataclass(slots=True)
class _Pair:
    """The two streams of one forwarded connection, as they come."""

    data: SpdyStream | None = None
    error: SpdyStream | None = None


async def forward(duplex: Duplex, dial: Dial) -> None:
    """Serve the SPDY connection that `duplex` carries."""
    try:
        async with asyncio.TaskGroup() as group:
            forwarder = _Forwarder(dial, group)
            try:
                await SpdyConnection(duplex).run(forwarder.accept)
            finally:
                forwarder.stop()
    except* OSError as gone:
        _log.debug("port-forward ended: %s", gone.exceptions[0])


class _Forwarder:
    def __init__(self, dial: Dial, group: asyncio.TaskGroup) -> None:
        self._dial = dial
        self._group = group
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, stream: SpdyStream) -> bool:
        """Pair the stream with its sibling; start when both are there. `spdy.Accept`."""
        kind = stream.headers.get("streamtype", "")
        port = stream.headers.get("port", "")
        if kind not in ("data", "error") or not port.isdecimal() or not 0 < int(port) < 65536:
            return False
        # Old clients send no requestID, but the data stream's number is the error stream's plus 2.
        request = stream.headers.get("requestid") or str(stream.id - 2 * (kind == "data"))
        pair = self._pairs.setdefault(request, _Pair())
        if getattr(pair, kind) is not None:
            return False
        setattr(pair, kind, stream)
        if pair.data is not None and pair.error is not None:
            del self._pairs[request]
            task = self._group.create_task(_forward_one(pair.data, pair.error, int(port), self._dial))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _forward_one(data: SpdyStream, error: SpdyStream, port: int, dial: Dial) -> None:
    try:
        target = await dial(port)
    except (OSError, TiphysError) as refused:
        _log.info("port %d: %s", port, refused)
        with contextlib.suppress(OSError):
            await error.write(f"error forwarding port {port}: {refused}".encode())
        await error.close()
        await data.reset()
        return
    try:
        await relay(data, target)
    finally:
        await error.close()
