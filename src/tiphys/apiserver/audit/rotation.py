"""A file of lines that is put aside when it is large: path-<time>.ext, as many and as old as wanted, perhaps packed."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from tiphys.apiserver.audit.settings import LogSettings
from tiphys.base.clock import Clock, utc

MEGABYTE = 1024 * 1024
DEFAULT_SIZE = 100
"""Megabytes, when nothing is said."""
DAY = 86400.0


class RotatedFile:
    """Readable by its owner only. Raises OSError."""

    def __init__(self, settings: LogSettings, clock: Clock) -> None:
        self._path, self._settings, self._clock = Path(settings.path), settings, clock
        self._limit = (settings.max_size or DEFAULT_SIZE) * MEGABYTE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, line: bytes) -> None:
        """Add a line; it is in the kernel's hands when this returns."""
        if self._size and self._size + len(line) > self._limit:
            self.rotate()
        rest = memoryview(line)
        while rest:
            written = os.write(self._handle, rest)
            rest = rest[written:]
        self._size += len(line)

    def rotate(self) -> None:
        """Put the file aside and begin a new one. When that fails the old one goes on."""
        moment = utc(self._clock.time())
        stamp = moment.strftime("%Y-%m-%dT%H-%M-%S.") + f"{moment.microsecond // 1000:03d}"
        aside = self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")
        count = 0
        while aside.exists():
            count += 1
            aside = self._path.with_name(f"{self._path.stem}-{stamp}.{count}{self._path.suffix}")
        self._path.rename(aside)
        old = self._handle
        self._open()
        # Not before there is another: its number may soon be that of a client's connection, or of the store.
        os.close(old)
        if self._settings.compress:
            _pack(aside)
        self._forget()

    def close(self) -> None:
        os.close(self._handle)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._handle = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._handle).st_size

    def _forget(self) -> None:
        """Remove those put aside that are too many or too old."""
        found = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}*"), reverse=True)
        if self._settings.max_backups:
            for path in found[self._settings.max_backups :]:
                path.unlink(missing_ok=True)
            found = found[: self._settings.max_backups]
        if self._settings.max_age:
            oldest = self._clock.time() - self._settings.max_age * DAY
            for path in found:
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)


def _pack(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    handle = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with path.open("rb") as source, os.fdopen(handle, "wb") as raw, gzip.open(raw, "wb") as target:
        shutil.copyfileobj(source, target)
    path.unlink()
