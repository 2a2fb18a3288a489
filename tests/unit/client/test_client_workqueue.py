from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.client.backoff import Backoff
from tiphys.client.workqueue import Closed, WorkQueue


def test_a_key_added_twice_is_handed_out_once(run: Any) -> None:
    async def scenario() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        for key in ("a", "b", "a"):
            queue.add(key)
        return [await queue.get(), await queue.get(), str(len(queue))]

    assert run(scenario()) == ["a", "b", "0"]


def test_a_key_added_while_it_is_held_comes_back_only_after_done(run: Any) -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done(key)
        assert len(queue) == 1
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    run(scenario())


def test_the_earliest_of_several_delays_counts(run: Any, clock: Any) -> None:
    async def scenario() -> float:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 50)
        queue.add_after("a", 7)
        queue.add_after("a", 30)
        await queue.get()
        return float(clock.monotonic())

    assert run(scenario()) == pytest.approx(7)


def test_back_off_doubles_until_forgotten() -> None:
    async def scenario() -> list[float]:
        queue: WorkQueue[str] = WorkQueue(Backoff(base=1, limit=5))
        delays = [queue.add_rate_limited("a") for _ in range(5)]
        queue.forget("a")
        return [*delays, queue.add_rate_limited("a")]

    assert asyncio.run(scenario()) == [1, 2, 4, 5, 5, 1]


def test_close_lets_waiting_workers_go(run: Any, clock: Any) -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        async with asyncio.TaskGroup() as tasks:
            getters = [tasks.create_task(_closed(queue)) for _ in range(3)]
            await clock.sleep(0)
            queue.close()
        assert all(getter.result() for getter in getters)

    run(scenario())


def test_a_cancelled_worker_passes_its_call_on(run: Any, clock: Any) -> None:
    async def scenario() -> str:
        queue: WorkQueue[str] = WorkQueue()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(queue.get())
            second = tasks.create_task(queue.get())
            await clock.sleep(0)
            queue.add("a")
            first.cancel()
        return second.result()

    assert run(scenario()) == "a"


async def _closed(queue: WorkQueue[str]) -> bool:
    try:
        await queue.get()
    except Closed:
        return True
    return False
