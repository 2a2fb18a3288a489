"""One sleeping task for all timers."""

from __future__ import annotations

import asyncio

from tiphys.apiserver.timers import Timers
from tiphys.testing.clock import VirtualClock


def test_timers_fire_in_order_of_time_and_not_when_cancelled() -> None:
    clock, fired = VirtualClock(), []

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            timers = Timers(clock, group)
            start = clock.monotonic()
            for seconds in (30, 10, 20):
                timers.after(seconds, lambda s=seconds: fired.append((s, clock.monotonic() - start)))  # type: ignore[misc]
            timers.after(15, lambda: fired.append((0, 0.0))).cancel()

            def chain() -> None:
                timers.after(1, lambda: fired.append((6, clock.monotonic() - start)))

            timers.after(5, chain)

    clock.run(scenario())
    assert fired == [(6, 6.0), (10, 10.0), (20, 20.0), (30, 30.0)]


def test_nothing_sleeps_when_there_is_no_timer() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            Timers(clock, group).after(60, lambda: None).cancel()
            Timers(clock, group).close()

    clock.run(scenario())
