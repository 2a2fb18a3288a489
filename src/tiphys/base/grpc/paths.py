"""Paths of Unix sockets that are longer than the 107 bytes of an address (unix(7)): by way of an open directory."""

from __future__ import annotations

import os

_LONGEST = 107


class ShortPath:
    """`text` is the same socket's path, short enough; it holds until `close`. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._directory = -1
        self.text = path
        if len(os.fsencode(path)) > _LONGEST:
            directory, name = os.path.split(path)
            self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.text = f"/proc/self/fd/{self._directory}/{name}"

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
