"""What the components of a cluster logged: the ends of their files, and what is added to them."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from tiphys.base.inotify import DirectoryWatch

Write = Callable[[str, str], None]
"""Takes a component and one line of its log, without the line's end."""


class LogReader:
    """Reads a component's log on from where it was, also after the file was replaced by a new one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._open: BinaryIO | None = None
        self._part = b""

    def last(self, count: int) -> list[str]:
        """The last `count` lines; all if it is negative. A file that is not there is empty."""
        lines = self.more()
        return list(deque(lines, count)) if count >= 0 else lines

    def more(self) -> list[str]:
        """The lines that were finished since the last call."""
        lines = self._read()
        if self._replaced():
            self.close()
            lines += self._read()
        return lines

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _read(self) -> list[str]:
        if self._open is None:
            try:
                self._open = self._file.open("rb")
            except FileNotFoundError:
                return []
        if os.fstat(self._open.fileno()).st_size < self._open.tell():
            self._open.seek(0)
        *whole, self._part = (self._part + self._open.read()).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def _replaced(self) -> bool:
        """Or gone: then it is closed too, else nobody is told that its directory goes."""
        try:
            return self._open is not None and not os.path.samestat(self._file.stat(), os.fstat(self._open.fileno()))
        except FileNotFoundError:
            return True


def follow(readers: Mapping[str, LogReader], directory: Path, write: Write) -> None:
    """Write what is added to the logs in `directory`, until interrupted or the directory is removed."""
    asyncio.run(_follow(readers, directory, write))


async def _follow(readers: Mapping[str, LogReader], directory: Path, write: Write) -> None:
    changed = asyncio.Event()
    watch = DirectoryWatch(directory, changed.set)
    try:
        while _write_new(readers, directory, write):
            await changed.wait()
            changed.clear()
    finally:
        watch.close()


def _write_new(readers: Mapping[str, LogReader], directory: Path, write: Write) -> bool:
    """False once the directory is gone."""
    for component, reader in readers.items():
        for line in reader.more():
            write(component, line)
    return directory.is_dir()
