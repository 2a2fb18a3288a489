"""Sessions: a running exec, and an attachment to a container's streams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import struct
import termios
from collections import deque
from collections.abc import AsyncIterator

from tiphys.runtime import protocol
from tiphys.runtime.channel import Channel, Frame
from tiphys.runtime.types import RuntimeFailure

CHUNK = 64 * 1024
HIGH_WATER = 1024 * 1024


class ExecSession:
    """An exec'd program: its pipes or its terminal in this process, its exit code from the monitor."""

    def __init__(self, channel: Channel, descriptors: list[int], *, tty: bool, stdin: bool) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._terminal = descriptors[0] if tty else -1
        self._stdin = descriptors[0] if tty or stdin else -1
        outputs = [descriptors[0]] if tty else descriptors[-2:]
        self._outputs = dict(enumerate(outputs, start=1))
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._held = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        """There is room in stdin, or the program has ended."""
        self._exit: asyncio.Future[int] = self._loop.create_future()
        for descriptor in set(descriptors):
            os.set_blocking(descriptor, False)
        self._read_more()
        channel.listen(self._told)

    def _told(self, frame: Frame | None) -> None:
        self._room.set()
        if not self._exit.done():
            self._exit.set_result(json.loads(frame[1])["exit_code"] if frame is not None else 137)
            # All that the program wrote is in the pipes by now; a child it left behind may hold them open for ever.
            for number, descriptor in list(self._outputs.items()):
                while self._read(number, descriptor):
                    pass
            self._end_outputs()

    def _read_more(self) -> None:
        for number, descriptor in self._outputs.items():
            self._loop.add_reader(descriptor, self._readable, number, descriptor)

    def _readable(self, number: int, descriptor: int) -> None:
        self._read(number, descriptor)
        if self._held > HIGH_WATER:
            for waiting in self._outputs.values():
                self._loop.remove_reader(waiting)

    def _read(self, number: int, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose other side is closed
                raise
            data = b""
        if data:
            self._chunks.append((number, data))
            self._held += len(data)
        else:
            self._end_output(number)
        self._changed.set()
        return bool(data)

    def _end_output(self, number: int) -> None:
        descriptor = self._outputs.pop(number)
        self._loop.remove_reader(descriptor)
        if descriptor != self._stdin:
            os.close(descriptor)

    def _end_outputs(self) -> None:
        for number in list(self._outputs):
            self._end_output(number)
        self._changed.set()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1, stdout) and (2, stderr) chunks until the program has ended or closed both."""
        while True:
            while self._chunks:
                number, data = self._chunks.popleft()
                was_full, self._held = self._held > HIGH_WATER, self._held - len(data)
                if was_full and self._held <= HIGH_WATER:
                    self._read_more()
                yield number, data
            if not self._outputs:
                return
            self._changed.clear()
            await self._changed.wait()

    async def write(self, data: bytes) -> None:
        """To the program's stdin; dropped once it has closed it."""
        rest = memoryview(data)
        while rest and self._stdin >= 0 and not self._exit.done():
            try:
                rest = rest[os.write(self._stdin, rest) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                return

    async def _writable(self) -> None:
        descriptor = self._stdin
        self._loop.add_writer(descriptor, self._room.set)
        try:
            await self._room.wait()
        finally:
            self._room.clear()
            self._loop.remove_writer(descriptor)

    async def close_stdin(self) -> None:
        """End of input: a closed pipe, or the terminal's end-of-file character."""
        if self._terminal >= 0:
            await self.write(b"\x04")
        elif self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    async def detach(self) -> None:
        """An exec'd program cannot be left alone: only its input ends."""
        await self.close_stdin()

    async def resize(self, width: int, height: int) -> None:
        """Of the terminal, in characters."""
        if self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        """The exit code; 128 + N for signal N."""
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        """Let go; the program is killed if it still runs."""
        self._channel.close()
        if not self._exit.done():
            self._exit.set_result(137)
        self._end_outputs()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = self._terminal = -1


class AttachSession:
    """A connection to a container's shim that takes part in its streams."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ended = asyncio.Event()

    async def begin(self) -> None:
        """Ask the shim for the streams."""
        await self._channel.send(protocol.message({"op": "attach"}))

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1, stdout) and (2, stderr) chunks until the container has ended."""
        try:
            while (frame := await self._channel.receive()) is not None:
                kind, payload = frame
                if kind != protocol.MESSAGE:
                    yield kind, payload
                elif json.loads(payload)["state"] == "exited":
                    return
        finally:
            self._ended.set()

    async def write(self, data: bytes) -> None:
        """To the container's stdin."""
        for start in range(0, len(data), CHUNK):
            await self._channel.send(protocol.frame(protocol.STDIN, data[start : start + CHUNK]))

    async def close_stdin(self) -> None:
        """Ends the container's input when it was made with stdin_once, else only ours."""
        with contextlib.suppress(RuntimeFailure):
            await self._channel.send(protocol.frame(protocol.STDIN_END, b""))

    async def detach(self) -> None:
        """No more input. The shim hangs up when it has read all of it, which ends `output`."""
        self._channel.write_eof()

    async def resize(self, width: int, height: int) -> None:
        """Of the terminal, in characters."""
        with contextlib.suppress(RuntimeFailure):
            await self._channel.send(protocol.message({"op": "resize", "width": width, "height": height}))

    async def wait(self) -> int:
        """0 once the container has ended and `output` was read to its end, or after `close`."""
        await self._ended.wait()
        return 0

    async def close(self) -> None:
        """Detach; the container goes on."""
        self._channel.close()
        self._ended.set()
