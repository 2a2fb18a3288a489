"""Virtual time: an event loop that never waits, and the Clock that goes with it.

When nothing is ready to run, the loop jumps to its next timer. An hour of CronJobs takes milliseconds and every
run goes the same way, as long as nothing waits for sockets. While a thread works (`asyncio.to_thread`) time stands
still. `run(main)` is asyncio.run on such a loop:

    def test_a_lost_node_is_noticed() -> None:
        clock = VirtualClock()
        clock.run(scenario(clock))
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

EPOCH = 1_767_225_600.0
"""2026-01-01T00:00:00Z, a Thursday: where virtual time starts unless told otherwise."""

_DEADLOCK_AFTER = 10.0
"""Real seconds that a loop without timers may wait for a socket or a thread before it is called deadlocked."""


class Deadlock(RuntimeError):
    """Every task waits for another one: nothing is ready, no timer is set, nothing comes from outside."""


class _JumpingSelector(selectors.DefaultSelector):
    """Looks at sockets without waiting; if none is ready, moves the time forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.working = 0
        """Threads whose results are waited for."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None and not self.working:
            self.now += timeout
            return []
        ready = super().select(_DEADLOCK_AFTER)
        if not ready:
            raise Deadlock("nothing is ready, no timer is set, and nothing came from outside")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        self._jumping.working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._worked)
        return future

    def _worked(self, future: asyncio.Future[Any]) -> None:
        self._jumping.working -= 1


class VirtualClock:
    """A `Clock` on a VirtualLoop of its own; `start` is the wall clock's first reading, seconds since 1970."""

    def __init__(self, start: float = EPOCH) -> None:
        self._start = start
        self._loop = VirtualLoop()

    def time(self) -> float:
        return self._start + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - virtual: the loop jumps

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end in virtual time; further calls go on where the last one ended."""
        asyncio.set_event_loop(self._loop)
        try:
            return self._loop.run_until_complete(main)
        finally:
            self._cancel_leftovers()
            asyncio.set_event_loop(None)

    def close(self) -> None:
        """Release the loop; the clock cannot run anything afterwards."""
        self._loop.close()

    def _cancel_leftovers(self) -> None:
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())


def run(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, on virtual time."""
    clock = VirtualClock()
    try:
        return clock.run(main)
    finally:
        clock.close()
