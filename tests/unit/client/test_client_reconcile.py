from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.errors import Conflict, Permanent, Retry
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.workqueue import WorkQueue


def outcomes(run: Any, clock: Any, *answers: Any) -> list[float]:
    """When reconcile was called, if it answers so in turn (an exception is raised)."""
    times: list[float] = []
    left = list(answers)

    async def reconcile(key: str) -> Result | None:
        times.append(round(clock.monotonic(), 3))
        answer = left.pop(0) if left else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("default/web")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run_workers("test", queue, reconcile))
            await clock.sleep(1000)
            task.cancel()

    run(scenario())
    return times


def test_a_result_names_when_to_come_back(run: Any, clock: Any) -> None:
    assert outcomes(run, clock, Result(30), None) == [0, 30]


def test_retry_names_its_own_delay(run: Any, clock: Any) -> None:
    assert outcomes(run, clock, Retry("not yet", after=12)) == [0, 12]


def test_permanent_is_not_tried_again(run: Any, clock: Any) -> None:
    assert outcomes(run, clock, Permanent("never")) == [0]


@pytest.mark.parametrize("error", [Conflict("behind"), RuntimeError("bug"), OSError("network")])
def test_failures_back_off_and_start_over_after_success(run: Any, clock: Any, error: Exception) -> None:
    times = outcomes(run, clock, error, error, Result(10), error)
    assert times == [0, 0.005, 0.015, 10.015, 10.02]


def test_workers_share_keys_but_never_the_same_one(run: Any, clock: Any) -> None:
    held: set[str] = set()
    most = 0

    async def reconcile(key: str) -> Result | None:
        nonlocal most
        assert key not in held
        held.add(key)
        most = max(most, len(held))
        await clock.sleep(1)
        held.discard(key)
        return None

    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run_workers("test", queue, reconcile, workers=3))
            for round_ in range(4):
                for key in ("a", "b", "c", "d"):
                    queue.add(key)
                await clock.sleep(0.4 * round_)
            await clock.sleep(20)
            task.cancel()

    run(scenario())
    assert most == 3


def test_several_calls_that_fail_side_by_side_count_as_their_first_failure(run: Any, clock: Any) -> None:
    refused = ExceptionGroup("calls", [ExceptionGroup("more", [Retry("not yet", after=12)]), OSError("network")])
    assert outcomes(run, clock, refused) == [0, 12]


def test_a_fault_among_failures_is_a_fault(run: Any, clock: Any) -> None:
    assert outcomes(run, clock, ExceptionGroup("calls", [Retry("not yet", after=12), KeyError("bug")])) == [0, 0.005]
