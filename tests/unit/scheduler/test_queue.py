from __future__ import annotations

from collections.abc import Callable, Coroutine

from tiphys.scheduler.queue import SchedulingQueue
from tiphys.scheduler.snapshot import PodInfo
from tiphys.scheduler.types import Change
from tiphys.testing.clock import VirtualClock


def pod(name: str, priority: int = 0) -> PodInfo:
    meta = {"name": name, "namespace": "default", "uid": name}
    return PodInfo({"metadata": meta, "spec": {"priority": priority, "containers": []}})


def run(scenario: Callable[[SchedulingQueue, VirtualClock], Coroutine[None, None, None]]) -> None:
    clock = VirtualClock()
    clock.run(scenario(SchedulingQueue(clock), clock))


def test_priority_goes_before_age() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("old"))
        await clock.sleep(1)
        queue.put(pod("young"))
        queue.put(pod("urgent", priority=10))
        assert [(await queue.next()).key for _ in range(3)] == ["urgent", "old", "young"]

    run(scenario)


def test_a_parked_pod_waits_for_a_change_and_then_for_its_backoff() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("p"))
        start = clock.monotonic()
        waits = []
        for _ in range(6):
            await queue.next()
            before = clock.monotonic()
            queue.failed("p", queue.moves, Change.NODE)
            queue.something_changed(Change.NODE)
            await queue.next()
            waits.append(round(clock.monotonic() - before))
            queue.failed("p", queue.moves, Change.NODE)
            queue.something_changed(Change.NODE)
        assert waits == [1, 4, 10, 10, 10, 10]
        assert clock.monotonic() > start

    run(scenario)


def test_nothing_changes_so_it_is_tried_again_after_five_minutes() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("p"))
        await queue.next()
        before = clock.monotonic()
        queue.failed("p", queue.moves, Change.NODE)
        await queue.next()
        assert round(clock.monotonic() - before) == 300

    run(scenario)


def test_a_change_during_the_decision_is_not_missed() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("p"))
        await queue.next()
        moves = queue.moves
        queue.something_changed(Change.NODE)
        before = clock.monotonic()
        queue.failed("p", moves, Change.NODE)
        await queue.next()
        assert round(clock.monotonic() - before) == 1

    run(scenario)


def test_a_removed_pod_is_not_handed_out() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("gone"))
        queue.put(pod("here"))
        queue.remove("gone")
        assert (await queue.next()).key == "here"
        assert len(queue) == 1

    run(scenario)


def test_only_changes_that_help_wake_a_parked_pod() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("p"))
        await queue.next()
        before = clock.monotonic()
        queue.failed("p", queue.moves, Change.NODE)
        queue.something_changed(Change.ROOM | Change.NEIGHBOURS)
        await queue.next()
        assert round(clock.monotonic() - before) == 300

    run(scenario)


def test_a_pod_that_changes_while_it_is_decided_about_is_tried_again() -> None:
    async def scenario(queue: SchedulingQueue, clock: VirtualClock) -> None:
        queue.put(pod("p"))
        await queue.next()
        queue.put(pod("p", priority=5))
        before = clock.monotonic()
        queue.failed("p", queue.moves, Change.NODE)
        await queue.next()
        assert round(clock.monotonic() - before) == 1

    run(scenario)
