"""Sessions over WebSocket: the first byte of each message names its channel.

0 stdin, 1 stdout, 2 stderr, 3 status, 4 resize; since v5, 255 and a channel's number close that channel. The base64
variants carry text: the channel as a digit, the data in base64.
"""

from __future__ import annotations

import base64
import binascii

from tiphys.base.http.websocket import WebSocket
from tiphys.kubelet.streaming.session import Input, Status, encode_status

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

VERSIONS = {
    "v5.channel.k8s.io": 5,
    "v4.channel.k8s.io": 4,
    "v4.base64.channel.k8s.io": 4,
    "channel.k8s.io": 1,
    "base64.channel.k8s.io": 1,
    "": 1,
}
"""The subprotocols, with the version of what their channels carry."""


class ChannelSocket:
    """Numbered channels in one WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._text = "base64." in socket.protocol

    async def send(self, channel: int, data: bytes) -> None:
        if self._text:
            await self._socket.send(chr(48 + channel) + base64.b64encode(data).decode())
        else:
            await self._socket.send(bytes((channel,)) + data)

    async def recv(self) -> tuple[int, bytes] | None:
        """The next message's channel and data; None when the client has gone."""
        while (message := await self._socket.recv()) is not None:
            data = message.encode() if isinstance(message, str) else message
            if not data:
                continue
            if not self._text:
                return data[0], data[1:]
            try:
                return data[0] - 48, base64.b64decode(data[1:], validate=True)
            except binascii.Error:
                continue
        return None


class ChannelFront:
    """`session.Front` over a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._channels = ChannelSocket(socket)
        self._version = VERSIONS[socket.protocol]

    async def greet(self, stdout: bool, stderr: bool) -> None:
        """An empty message on the lowest channel that goes out: some clients take it for "connected"."""
        await self._channels.send(STDOUT if stdout else STDERR if stderr else STATUS, b"")

    async def feed(self, target: Input) -> None:
        while (message := await self._channels.recv()) is not None:
            channel, data = message
            if channel == STDIN:
                await target.stdin(data)
            elif channel == RESIZE:
                await target.resize(data)
            elif channel == CLOSE and self._version >= 5 and data == bytes((STDIN,)):
                await target.stdin_end()

    async def output(self, descriptor: int, data: bytes) -> None:
        await self._channels.send(descriptor, data)

    async def finish(self, status: Status) -> None:
        message = encode_status(status, self._version)
        if message:
            await self._channels.send(STATUS, message)
