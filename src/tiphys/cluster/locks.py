"""Locks between commands: flock(2) on files that may be removed by whoever holds them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _quiet() -> None:
    return None


@contextmanager
def locked(path: Path, *, shared: bool = False, waiting: Callable[[], None] = _quiet) -> Iterator[None]:
    """Hold the lock of the file `path`, made if need be; `waiting` is called if somebody else has it.

    The holder may remove the file: those who waited for it then lock the new one.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # its directory was removed since
            continue
        try:
            _take(descriptor, kind, waiting)
            if _same(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _take(descriptor: int, kind: int, waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, kind)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
