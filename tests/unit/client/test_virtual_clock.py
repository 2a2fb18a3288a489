from __future__ import annotations

import asyncio

import pytest

from tiphys.testing import clock as virtual
from tiphys.testing.clock import EPOCH, Deadlock, VirtualClock


def test_a_day_passes_at_once_and_wakes_sleepers_in_order() -> None:
    clock = VirtualClock()

    async def scenario() -> list[int]:
        woken: list[int] = []

        async def sleeper(hours: int) -> None:
            await clock.sleep(hours * 3600)
            woken.append(hours)

        async with asyncio.TaskGroup() as tasks:
            for hours in (24, 1, 12):
                tasks.create_task(sleeper(hours))
        return woken

    assert clock.run(scenario()) == [1, 12, 24]
    assert clock.time() - EPOCH == pytest.approx(86400)


def test_timeouts_are_virtual_too() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()

    virtual.run(scenario())


def test_threads_are_waited_for() -> None:
    assert virtual.run(_in_thread()) == 42


async def _in_thread() -> int:
    return await asyncio.to_thread(lambda: 42)


def test_waiting_for_nothing_is_called_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "_DEADLOCK_AFTER", 0.01)
    clock = VirtualClock()
    with pytest.raises(Deadlock):
        clock.run(asyncio.Event().wait())
