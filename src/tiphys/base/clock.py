"""Time, handed in. Nobody else in Tiphys reads the wall clock or sleeps.

`Clock` is what components take; `SystemClock` is the real one. `tiphys.testing.clock` has a virtual one that
jumps to the next timer when nothing else can run, so an hour of CronJobs takes milliseconds.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch, seconds since some start, and a way to wait."""

    def time(self) -> float:
        """Wall clock: seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. For durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds` (0 yields to other tasks once)."""
        ...


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return time.time()  # noqa: TID251 - the one place

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - the one place

    async def sleep(self, seconds: float) -> None:
        import asyncio  # here: commands that only look at the time start in half of the time without it

        await asyncio.sleep(seconds)  # noqa: TID251 - the one place

    def pause(self, seconds: float) -> None:
        """Block the calling thread: for command-line tools, never inside an event loop."""
        time.sleep(seconds)  # noqa: TID251 - the one place


def utc(seconds: float) -> datetime:
    """The moment `seconds` after the epoch, with its zone."""
    return datetime.fromtimestamp(seconds, UTC)


def rfc3339(seconds: float) -> str:
    """metav1.Time: whole seconds, UTC, e.g. 2026-01-31T09:08:07Z."""
    return _whole_second(math.floor(seconds))


@lru_cache(64)
def _whole_second(seconds: int) -> str:
    """Thousands of objects are written in the same second, and strftime takes longer than most other steps do."""
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """metav1.MicroTime: microseconds, UTC, e.g. 2026-01-31T09:08:07.123456Z."""
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch; raises ValueError for what is not RFC 3339."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: RFC 3339 wants Z or an offset")
    return moment.timestamp()
