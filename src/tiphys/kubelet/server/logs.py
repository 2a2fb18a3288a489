"""Reading container logs in the CRI format: tail, since, limits, time stamps, and following across rotation.

An entry is `TIMESTAMP STREAM TAG CONTENT`; TAG is F for a whole line and P for a part of one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tiphys.base.clock import parse_rfc3339
from tiphys.base.errors import BadRequest, Invalid
from tiphys.base.http.types import Request
from tiphys.base.inotify import DirectoryWatch
from tiphys.kubelet.server.logfiles import following, open_all

_log = logging.getLogger(__name__)

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogOptions:
    """core/v1 PodLogOptions. Times in seconds since the epoch."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: float | None = None
    stream: str = "All"


def parse_options(request: Request, now: float) -> LogOptions:
    """From the query. Raises BadRequest for what cannot be read, Invalid for what makes no sense."""
    tail = request.param("tailLines") or request.param("tail")
    try:
        since: float | None = None
        seconds = _whole(request.param("sinceSeconds"))
        if seconds is not None:
            since = now - seconds
        elif moment := request.param("sinceTime"):
            since = _seconds(moment)
        options = LogOptions(
            follow=_flag(request, "follow"),
            previous=_flag(request, "previous"),
            timestamps=_flag(request, "timestamps"),
            tail_lines=_whole(tail) if tail != "all" else None,
            limit_bytes=_whole(request.param("limitBytes")),
            since=since,
            stream=request.param("stream", "All") or "All",
        )
    except ValueError as error:
        raise BadRequest('{"message": "Unable to decode query."}') from error
    both = seconds is not None and request.param("sinceTime")
    if both or not _sensible(options, seconds):
        raise Invalid('{"message": "Invalid request."}')
    return options


def _sensible(options: LogOptions, seconds: int | None) -> bool:
    """As core/v1's validation has it."""
    if options.tail_lines is not None and (options.tail_lines < 0 or options.stream != "All"):
        return False
    if options.limit_bytes is not None and options.limit_bytes < 1:
        return False
    return options.stream in ("All", "Stdout", "Stderr") and (seconds is None or seconds >= 1)


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _flag(request: Request, name: str) -> bool:
    return request.param(name).lower() in ("true", "1", "t")


class Formatter:
    """Turns entries into what the client gets; `full` once limitBytes are out."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        self._in_part = False
        self.full = self._left is not None and self._left <= 0

    def feed(self, entries: Iterator[bytes]) -> bytes:
        out = bytearray()
        for entry in entries:
            out += self._entry(entry)
            if self._left is not None and len(out) >= self._left:
                self.full = True
                return bytes(out[: self._left])
        if self._left is not None:
            self._left -= len(out)
        return bytes(out)

    def _entry(self, entry: bytes) -> bytes:
        stamp, stream, tag, content = [*entry.rstrip(b"\n").split(b" ", 3), b"", b"", b""][:4]
        wanted = self._options.stream.encode().lower()
        if wanted not in (b"all", stream) or self._too_old(stamp):
            return b""
        head = stamp + b" " if self._options.timestamps and not self._in_part else b""
        self._in_part = tag.startswith(b"P")
        return head + content + (b"" if self._in_part else b"\n")

    def _too_old(self, stamp: bytes) -> bool:
        if self._options.since is None:
            return False
        try:
            return _seconds(stamp.decode()) < self._options.since
        except ValueError:
            return False


def _seconds(stamp: str) -> float:
    """RFC 3339 with nanoseconds, which datetime does not read."""
    head, dot, rest = stamp.partition(".")
    if not dot:
        return parse_rfc3339(stamp)
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return parse_rfc3339(head + rest[digits:]) + float(f"0.{rest[:digits] or 0}")


def _tail_offset(file: BinaryIO, wanted: int) -> tuple[int, int]:
    """(offset of the last `wanted` entries, how many there are from there on)."""
    end = file.seek(0, os.SEEK_END)
    position, found = end, 0
    while position > 0:
        size = min(_CHUNK, position)
        position -= size
        file.seek(position)
        chunk = file.read(size)
        scan = len(chunk)
        while (scan := chunk.rfind(b"\n", 0, scan)) >= 0:
            if position + scan + 1 == end:
                continue  # the newline that ends the last entry
            found += 1
            if found == wanted:
                return position + scan + 1, found
    return 0, found + (1 if end else 0)


def _open_files(path: Path, options: LogOptions, stack: ExitStack) -> list[BinaryIO]:
    """The files to be read, oldest first, each at the place to start from."""
    files = open_all(path, stack)
    if options.tail_lines is None:
        return files
    missing = options.tail_lines
    for place in range(len(files) - 1, -1, -1):
        file = files[place]
        offset, found = _tail_offset(file, missing) if missing > 0 else (file.seek(0, os.SEEK_END), 0)
        file.seek(offset)
        missing -= found
        if missing <= 0:
            return files[place:]
    return files


def _entries(file: BinaryIO, rest: bytearray) -> Iterator[Iterator[bytes]]:
    """Batches of whole entries up to the end of the file; a part of one stays in `rest`."""
    while chunk := file.read(_CHUNK):
        rest += chunk
        cut = rest.rfind(b"\n") + 1
        if cut:
            batch = bytes(rest[:cut])
            del rest[:cut]
            yield iter(batch.splitlines(keepends=True))


async def read_log(path: Path, options: LogOptions) -> AsyncIterator[bytes]:
    """What is there, in chunks. Raises OSError when there is no log."""
    formatter = Formatter(options)
    with ExitStack() as stack:
        for file in _open_files(path, options, stack):
            for batch in _entries(file, bytearray()):
                if data := formatter.feed(batch):
                    yield data
                if formatter.full:
                    return


class Follower:
    """Reads a log and goes on as it grows, until `ended()` says that its container has stopped."""

    def __init__(self, path: Path, options: LogOptions, ended: Callable[[], bool]) -> None:
        self._path = path
        self._options = options
        self._ended = ended
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look again: the container may have ended."""
        self._news.set()

    async def run(self) -> AsyncIterator[bytes]:
        """Chunks as they come."""
        formatter = Formatter(self._options)
        with ExitStack() as stack:
            stack.callback(self._watch().close)
            files = _open_files(self._path, self._options, stack)
            current = files[-1] if files else None
            for data in _drain(files, formatter):
                yield data
            rest = bytearray()
            while not formatter.full:
                over = self._ended()
                self._news.clear()
                for batch in _entries(current, rest) if current is not None else ():
                    if data := formatter.feed(batch):
                        yield data
                newer = following(self._path, current, stack)
                if newer is not None:
                    current = self._turn(current, newer)
                elif over:
                    return
                else:
                    await self._news.wait()

    def _turn(self, current: BinaryIO | None, newer: BinaryIO) -> BinaryIO:
        """Go on with the newer file once the one before has been read to its end: nobody writes to it any more."""
        if current is None:
            return newer
        if current.tell() < os.fstat(current.fileno()).st_size:
            newer.close()
            return current
        current.close()
        return newer

    def _watch(self) -> DirectoryWatch | _Ticks:
        try:
            return DirectoryWatch(self._path.parent, self.wake)
        except OSError as error:  # the machine's limit of inotify instances is reached
            _log.warning("%s: following by looking every second: %s", self._path, error)
            return _Ticks(self.wake)


class _Ticks:
    """Calls back every second until it is closed."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._tick()

    def _tick(self) -> None:
        self._wake()
        self._handle = asyncio.get_running_loop().call_later(1.0, self._tick)

    def close(self) -> None:
        self._handle.cancel()


def _drain(files: list[BinaryIO], formatter: Formatter) -> Iterator[bytes]:
    for file in files[:-1]:
        for batch in _entries(file, bytearray()):
            if data := formatter.feed(batch):
                yield data
            if formatter.full:
                return
