"""Rotating logs that a CRI runtime writes: it only opens them again when it is told (ReopenContainerLog)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from tiphys.runtime.types import ContainerStatus, State

INTERVAL = 10.0
"""Seconds between looks, as upstream's containerLogMonitorInterval."""


def due(statuses: Iterable[ContainerStatus]) -> list[ContainerStatus]:
    """Running containers whose log has outgrown its limit."""
    return [one for one in statuses if one.state is State.RUNNING and _size(one.spec.log_path) > one.spec.log_max_bytes]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return 0


def shift(path: str, keep: int) -> None:
    """path becomes path.1, that path.2 ...; of `keep` files in all the oldest goes. Raises OSError."""
    for number in range(keep - 2, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    os.replace(path, f"{path}.1")


def unshift(path: str) -> None:
    """The runtime could not open a new file: it goes on with the old one, under its name."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(f"{path}.1", path)
