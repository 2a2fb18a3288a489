"""Waiting for SIGTERM or SIGINT, the only ways in which a process of a cluster is asked to end."""

from __future__ import annotations

import asyncio
import signal


async def until_told_to_stop() -> None:
    """Return at the first SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
