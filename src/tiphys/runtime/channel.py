"""The runtime's end of a connection to the helper, a shim or an exec monitor, in asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from tiphys.runtime import protocol
from tiphys.runtime.types import RuntimeFailure

Frame = tuple[int, bytes]
HIGH_WATER = 256 * 1024


class Channel:
    """Frames over a Unix socket. Frames wait in a queue until `receive`, or go to a callback after `listen`."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._decoder = protocol.Decoder()
        self._frames: deque[Frame] = deque()
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._callback: Callable[[Frame | None], None] | None = None
        self._sending = asyncio.Lock()
        self._reading = False
        self.ended = False
        self.descriptors: list[int] = []
        self._resume()

    def _resume(self) -> None:
        if not self._reading and not self.ended:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data, descriptors = protocol.receive_chunk(self._socket)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self.descriptors += descriptors
        if not data:
            self._pause()
            self.ended = True
            self._deliver(None)
            return
        for frame in self._decoder.feed(data):
            self._deliver(frame)

    def _deliver(self, frame: Frame | None) -> None:
        if self._callback is not None:
            self._callback(frame)
            return
        if frame is not None:
            self._frames.append(frame)
            self._held += len(frame[1])
            if self._held > HIGH_WATER:
                self._pause()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def listen(self, callback: Callable[[Frame | None], None]) -> None:
        """From now on hand every frame to `callback`, and None once at the end."""
        self._callback = callback
        while self._frames:
            callback(self._frames.popleft())
        if self.ended:
            callback(None)

    async def receive(self) -> Frame | None:
        """The next frame; None at the end."""
        while not self._frames:
            if self.ended:
                return None
            self._waiter = self._loop.create_future()
            await self._waiter
        frame = self._frames.popleft()
        self._held -= len(frame[1])
        if self._held <= HIGH_WATER:
            self._resume()
        return frame

    async def send(self, data: bytes) -> None:
        """Send a frame whole. Raises RuntimeFailure when the other end has gone."""
        async with self._sending:
            try:
                await self._loop.sock_sendall(self._socket, data)
            except OSError as error:
                raise RuntimeFailure(f"the container's shim does not answer: {error}") from error

    async def ask(self, request: dict[str, Any], kind: int = protocol.MESSAGE) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises RuntimeFailure when the other end goes first."""
        await self.send(protocol.frame(kind, json.dumps(request).encode()))
        frame = await self.receive()
        if frame is None:
            raise RuntimeFailure("the runtime's helper gave up: see helper.log")
        answer: dict[str, Any] = json.loads(frame[1])
        return answer

    def write_eof(self) -> None:
        """Send nothing more; the other end reads what was sent and then the end. Receiving goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def take_descriptors(self) -> list[int]:
        """The descriptors that came; the caller owns them now."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def close(self) -> None:
        """Let go. Harmless if done already."""
        if self._socket.fileno() >= 0:
            self._pause()
            self.ended = True
            self._socket.close()
        for descriptor in self.take_descriptors():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
