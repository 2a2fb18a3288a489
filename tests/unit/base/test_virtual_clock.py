"""Virtual time jumps when nothing is ready, and stands still while a thread works."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tiphys.testing.clock import VirtualClock, run


def test_a_day_passes_at_once() -> None:
    clock = VirtualClock()

    async def main() -> float:
        begun = clock.monotonic()
        await clock.sleep(86400)
        return clock.monotonic() - begun

    assert clock.run(main()) == 86400
    clock.close()


def test_time_stands_still_while_a_thread_works() -> None:
    done = threading.Event()

    async def main() -> str:
        # A timer of the real clock's kind ends the thread's wait: virtual time must not reach the limit before.
        threading.Timer(0.05, done.set).start()
        async with asyncio.timeout(1):
            return "in time" if await asyncio.to_thread(done.wait, 10) else "late"

    assert run(main()) == "in time"


def test_time_goes_on_when_the_thread_has_failed() -> None:
    clock = VirtualClock()

    def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await asyncio.to_thread(fail)
        await clock.sleep(5)
        assert clock.monotonic() >= 5

    clock.run(main())
    clock.close()
