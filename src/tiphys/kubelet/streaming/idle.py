"""Closes a stream on which nothing has moved for too long: streamingConnectionIdleTimeout."""

from __future__ import annotations

import asyncio

from tiphys.base.clock import Clock
from tiphys.base.http.types import Duplex, Response, Upgrade


class _Watched:
    """A Duplex that notes when something was last read or written."""

    def __init__(self, inner: Duplex, clock: Clock) -> None:
        self._inner, self._clock = inner, clock
        self.moved_at = clock.monotonic()

    async def read(self, limit: int = 65536) -> bytes:
        data = await self._inner.read(limit)
        self.moved_at = self._clock.monotonic()
        return data

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)
        self.moved_at = self._clock.monotonic()

    async def close(self) -> None:
        await self._inner.close()

    async def write_eof(self) -> None:
        await self._inner.write_eof()

    async def close_when_idle(self, seconds: float) -> None:
        """Sleeps until the earliest moment at which it may be idle: no more wake-ups than that."""
        while (left := self.moved_at + seconds - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        await self._inner.close()


def limited(response: Response, clock: Clock, seconds: float) -> Response:
    """The same response; what it upgrades to is closed after so many seconds without traffic. 0: never."""
    if response.upgrade is not None and seconds > 0:
        response.upgrade = _limit(response.upgrade, clock, seconds)
    return response


def _limit(upgrade: Upgrade, clock: Clock, seconds: float) -> Upgrade:
    async def run(duplex: Duplex) -> None:
        watched = _Watched(duplex, clock)
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(watched.close_when_idle(seconds), name="idle stream")
            try:
                await upgrade(watched)
            finally:
                timer.cancel()

    return run
