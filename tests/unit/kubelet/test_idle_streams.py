"""Streams that nobody uses are closed, those that somebody uses are not."""

from __future__ import annotations

import asyncio

from tiphys.base.http.types import Duplex, Response
from tiphys.kubelet.streaming.idle import limited
from tiphys.testing.clock import VirtualClock


class Pipe:
    """A Duplex whose reader waits until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def read(self, limit: int = 65536) -> bytes:
        await self.closed.wait()
        return b""

    async def write(self, data: bytes) -> None:
        return

    async def close(self) -> None:
        self.closed.set()

    async def write_eof(self) -> None:
        return


def test_a_stream_is_closed_once_nothing_has_moved_for_so_long() -> None:
    clock = VirtualClock()

    async def scenario() -> float:
        pipe = Pipe()

        async def upgrade(duplex: Duplex) -> None:
            for _ in range(3):
                await clock.sleep(50)
                await duplex.write(b"x")
            await duplex.read()

        response = limited(Response(101, upgrade=upgrade), clock, 60)
        assert response.upgrade is not None
        began = clock.monotonic()
        await response.upgrade(pipe)
        return clock.monotonic() - began

    assert 209 <= clock.run(scenario()) <= 211


def test_a_stream_that_ends_by_itself_leaves_no_timer() -> None:
    clock = VirtualClock()

    async def scenario() -> float:
        async def upgrade(duplex: Duplex) -> None:
            await clock.sleep(1)

        response = limited(Response(101, upgrade=upgrade), clock, 3600)
        assert response.upgrade is not None
        await response.upgrade(Pipe())
        return clock.monotonic()

    assert clock.run(scenario()) < 5
