"""One kubelet a root directory: two of them would start each pod's containers twice, and remove each other's.

A POSIX lock: the kernel lets go of it when the process ends, however it ends, and no child inherits it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent

LOCK = "kubelet.lock"
PATIENCE, PAUSE = 5.0, 0.1
"""Seconds that a kubelet which was killed may take to be gone, and between two looks."""


@asynccontextmanager
async def sole(root: Path, clock: Clock) -> AsyncIterator[None]:
    """Be the only kubelet of `root` meanwhile. Raises Permanent when another process is."""
    os.makedirs(root, exist_ok=True)
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(int(PATIENCE / PAUSE)):
            if _take(handle):
                break
            await clock.sleep(PAUSE)
        else:
            raise Permanent(f"another kubelet uses the directory {root}: give each its own --root-dir")
        yield
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
