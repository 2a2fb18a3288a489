"""Manifests in a directory, or one file (staticPodPath): watched by inotify, and looked at again every now and then.

A file that cannot be used any more keeps its pod until the next such look finds it unchanged: editors and copies
take several steps.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.inotify import DirectoryWatch
from tiphys.kubelet.staticpods.manifest import MAX_BYTES, ManifestError, read_pods

log = logging.getLogger(__name__)

_SETTLE = 0.1
"""Seconds between being told of a change and looking: most changes are several."""

Pods = list[dict[str, Any]]
Signature = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file was when it was read last, and what came of it."""

    signature: Signature
    pods: Pods
    broken: bool = False


class FileSource:
    """`changed(pods)` is called with all that is there, after each look."""

    def __init__(self, path: Path, node: str, clock: Clock, period: float, changed: Callable[[Pods], None]) -> None:
        self._path = path
        self._node = node
        self._clock = clock
        self._period = period
        self._changed = changed
        self._files: Mapping[Path, _Read] = {}
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            watch = self._watch()
            try:
                self.look()  # what changed while nobody watched
                told = await self._is_told()
            finally:
                if watch is not None:
                    watch.close()
            if not told:
                self.look(patient=False)

    def _watch(self) -> DirectoryWatch | None:
        """Of the directory, or of the one that the file is in; anew each time, since it may be another one by now."""
        directory = self._path if self._path.is_dir() else self._path.parent
        try:
            return DirectoryWatch(directory, self._woken.set)
        except OSError as error:
            log.debug("%s cannot be watched: %s", directory, error)
            return None

    async def _is_told(self) -> bool:
        """Wait for a change; False after the period."""
        try:
            async with asyncio.timeout(self._period):
                await self._woken.wait()
        except TimeoutError:
            return False
        await self._clock.sleep(_SETTLE)
        self._woken.clear()
        return True

    def look(self, patient: bool = True) -> None:
        """Read what is new, and tell. What cannot be looked at at all changes nothing.

        `patient`: files that cannot be used keep the pods that they had."""
        try:
            self._look(patient)
        except OSError as error:
            log.warning("static pods: %s cannot be read: %s", self._path, error)
        except Exception:  # no manifest ends the kubelet
            log.exception("static pods: %s", self._path)

    def _look(self, patient: bool) -> None:
        paths = self._paths()
        found = {path: read for path in paths if (read := self._read(path, patient)) is not None}
        self._files = found
        pods = [pod for read in found.values() for pod in read.pods]
        by_name = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in pods}
        self._changed(list(by_name.values()))

    def _paths(self) -> list[Path]:
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return []
        if not stat.S_ISDIR(mode):
            return [self._path]
        return sorted(path for path in self._path.iterdir() if not path.name.startswith("."))

    def _read(self, path: Path, patient: bool) -> _Read | None:
        known = self._files.get(path)
        try:
            signature, data = _load(path, known.signature if known is not None else None)
            if data is None:
                return _Read(signature, [], True) if known is not None and known.broken and not patient else known
            return _Read(signature, read_pods(data, "file", str(path), self._node))
        except FileNotFoundError:
            return None
        except (OSError, ManifestError) as error:
            log.warning("static pods: %s cannot be used: %s", path, error)
        former = known.pods if known is not None and not known.broken else []
        return _Read(_signature(path), former, True)


def _load(path: Path, known: Signature | None) -> tuple[Signature, bytes | None]:
    """The file's signature and, if that is not the one that is known, its bytes. Raises OSError, ManifestError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold us up
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ManifestError("it is no regular file")
        signature = _of(found)
        return signature, None if signature == known else file.read(MAX_BYTES + 1)


def _signature(path: Path) -> Signature:
    try:
        return _of(path.stat())
    except OSError:
        return (0, 0, 0, 0)


def _of(found: os.stat_result) -> Signature:
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
