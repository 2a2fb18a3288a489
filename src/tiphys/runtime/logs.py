"""Container logs in the CRI format, written by the shim: `TIMESTAMP STREAM TAG CONTENT` a line.

The tag is F for a full line and P for a part: lines longer than 16 KiB are cut, and what a stream leaves without a
newline at its end is a part (the kubelet's and containerd's format). A line is written whole or not at all.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PART = 16 * 1024


class LogWriter:
    """Appends to `path`, rotating to `path`.1, `path`.2 ... at `max_bytes`; keeps `max_files` in all.

    A full disk never blocks the container: what cannot be written is counted in `dropped` and the reason kept in
    `error`; later output is tried again. `now` tells nanoseconds
    since the epoch.
    """

    def __init__(self, path: str, max_bytes: int, max_files: int, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self.path, self.max_bytes, self.max_files = path, max_bytes, max(max_files, 1)
        self.dropped = 0
        self.error = ""
        self._second = -1
        self._prefix = ""
        self._handle = -1
        self._size = 0
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._open()

    def _open(self) -> None:
        """The file at the path; the one before is let go only when there is a new one: a number that is closed may be
        anything's a moment later."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        before, self._handle = self._handle, os.open(self.path, flags, 0o640)
        if before >= 0:
            os.close(before)
        self._size = os.fstat(self._handle).st_size

    def stamp(self) -> bytes:
        """The time now, RFC 3339 in UTC with nanoseconds."""
        second, rest = divmod(self._now(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{rest:09d}Z".encode()

    def write(self, entries: bytes) -> None:
        """Append whole entries; rotate first if the file is full."""
        if self._size >= self.max_bytes:
            self._rotate()
        written = 0
        try:
            while written < len(entries):
                written += os.write(self._handle, entries[written:])
        except OSError as error:
            self.error = os.strerror(error.errno or 0)
            whole = entries.rfind(b"\n", 0, written) + 1
            self.dropped += len(entries) - whole
            self._size += whole
            self._cut_back()
            return
        self._size += written

    def _cut_back(self) -> None:
        """Leave whole entries only."""
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as error:
            self.error = os.strerror(error.errno or 0)

    def _rotate(self) -> None:
        """Shift the files by one and begin a new one; when that cannot be, the old one goes on until it can."""
        try:
            if self.max_files == 1:
                os.ftruncate(self._handle, 0)
            elif os.path.lexists(self.path):  # else it was renamed before, and a new one could not be made
                self._shift()
            self._open()
        except OSError as error:
            self.error = os.strerror(error.errno or 0)

    def _shift(self) -> None:
        for number in range(self.max_files - 1, 0, -1):
            newer = f"{self.path}.{number - 1}" if number > 1 else self.path
            if os.path.lexists(newer):
                os.replace(newer, f"{self.path}.{number}")

    def reopen(self) -> None:
        """Start a new file at the path: someone else has renamed the old one. What cannot be is kept in `error`."""
        try:
            self._open()
        except OSError as error:
            self.error = os.strerror(error.errno or 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


class LineSplitter:
    """Turns one stream's chunks into log entries."""

    def __init__(self, writer: LogWriter, stream: str) -> None:
        self._writer = writer
        self._full = f" {stream} F ".encode()
        self._part = f" {stream} P ".encode()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Write the lines that are complete; keep the rest for later, at most MAX_PART bytes."""
        stamp = self._writer.stamp()
        *lines, rest = (self._rest + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            self._line(out, stamp, line)
        while len(rest) > MAX_PART:
            out += (stamp, self._part, rest[:MAX_PART], b"\n")
            rest = rest[MAX_PART:]
        self._rest = rest
        if out:
            self._writer.write(b"".join(out))

    def _line(self, out: list[bytes], stamp: bytes, line: bytes) -> None:
        while len(line) > MAX_PART:
            out += (stamp, self._part, line[:MAX_PART], b"\n")
            line = line[MAX_PART:]
        out += (stamp, self._full, line, b"\n")

    def close(self) -> None:
        """Write what the stream left without a newline."""
        if self._rest:
            self._writer.write(b"".join((self._writer.stamp(), self._part, self._rest, b"\n")))
            self._rest = b""
