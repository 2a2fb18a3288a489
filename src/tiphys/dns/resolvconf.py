"""The host's resolv.conf, read again whenever it changes.

It is often a link that is put somewhere else, or a file that is replaced: the directory is watched, and that of the
file to which it leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from tiphys.base.inotify import DirectoryWatch
from tiphys.dns.upstreams import Server, servers_of

log = logging.getLogger(__name__)


def read(path: Path) -> tuple[Server, ...]:
    """Its name servers; none if there is no such file."""
    try:
        return servers_of(path.read_text(errors="replace"))
    except OSError as error:
        log.warning("%s cannot be read: %s", path, error.strerror)
        return ()


def _directories(path: Path) -> set[Path]:
    try:
        return {path.parent, path.resolve().parent}
    except (OSError, RuntimeError):  # a link that leads to itself
        return {path.parent}


async def watched(path: Path, changed: Callable[[tuple[Server, ...]], None]) -> None:
    """Tell of its name servers now and after each change, until cancelled."""
    again = asyncio.Event()
    while True:
        again.clear()
        with contextlib.ExitStack() as stack:
            for directory in _directories(path):
                with contextlib.suppress(OSError):  # it is not there yet
                    stack.callback(DirectoryWatch(directory, again.set).close)
            changed(read(path))
            await again.wait()
