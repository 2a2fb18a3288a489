"""Calls at given times, by one sleeping task for the whole server: watch timeouts, bookmarks, event expiry.

A server without watches or expiring objects has no timer and sleeps for good; thousands of watches cost one task.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable

from tiphys.base.clock import Clock

log = logging.getLogger(__name__)


class Timer:
    """One pending call; `cancel()` forgets it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Timers:
    """Pending calls in order of time. Calls must not block."""

    def __init__(self, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._clock, self._group = clock, group
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._closed = self._firing = False

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in `seconds` seconds."""
        timer = Timer(call)
        when = self._clock.monotonic() + seconds
        earliest = not self._heap or when < self._heap[0][0]
        heapq.heappush(self._heap, (when, next(self._order), timer))
        if earliest and not self._firing and not self._closed:
            self._restart()
        return timer

    def close(self) -> None:
        """No timer fires any more."""
        self._closed = True
        self._heap.clear()
        if self._task is not None:
            self._task.cancel()

    def _restart(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._group.create_task(self._run())

    async def _run(self) -> None:
        while self._heap:
            wait = self._heap[0][0] - self._clock.monotonic()
            if wait > 0:
                await self._clock.sleep(wait)
            self._fire()
        self._task = None

    def _fire(self) -> None:
        """Call what is due; calls may add timers, the loop above looks again."""
        now = self._clock.monotonic()
        self._firing = True
        try:
            while self._heap and (self._heap[0][0] <= now or self._heap[0][2].call is None):
                call = heapq.heappop(self._heap)[2].call
                if call is not None:
                    _call(call)
        finally:
            self._firing = False


def _call(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # one timer must not end all others, and the server with them
        log.exception("a timer failed")
