"""Being told by the kernel when files change: inotify(7) through libc, read by the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF = 0x2, 0x40, 0x80, 0x100, 0x200, 0x400
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """Calls `changed` whenever a file in `directory` is written, created, renamed or removed, and when
    the directory itself is removed (while nobody has it or a file of it open). Close it when done."""

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._fd = _libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify_init1", directory)
        mask = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF
        if _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask) < 0:
            error = _error("inotify_add_watch", directory)
            os.close(self._fd)
            raise error
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            os.read(self._fd, 65536)  # which file it was does not matter: the reader looks again
        except BlockingIOError:
            return
        self._changed()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def _error(call: str, path: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}", str(path))
