"""Seats: shares, lending, borrowing, waiting, taking turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.apiserver.fairness.levels import Level, Pool, Rejected, Ticket
from tiphys.apiserver.fairness.queues import deal
from tiphys.testing.clock import VirtualClock

QUEUES = {"type": "Queue", "queuing": {"queues": 4, "handSize": 2, "queueLengthLimit": 3}}


def level(name: str, shares: int, response: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    limited = {"nominalConcurrencyShares": shares, "limitResponse": response or {"type": "Reject"}, **more}
    return {"metadata": {"name": name, "uid": name}, "spec": {"type": "Limited", "limited": limited}}


def pool(clock: VirtualClock, seats: int, *levels: dict[str, Any]) -> Pool:
    made = Pool(seats, clock)
    made.configure(levels)
    return made


def play(scenario: Callable[[VirtualClock], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()
    clock.run(scenario(clock))
    clock.close()


def take(made: Pool, of: Level, count: int, flow: str = "f") -> list[Ticket]:
    found = [made.try_enter(of, flow, 1) for _ in range(count)]
    assert None not in found
    return [ticket for ticket in found if ticket is not None]


def test_seats_are_shared_out_by_shares() -> None:
    made = pool(VirtualClock(), 100, level("a", 30), level("b", 70))
    assert [(one.name, one.nominal) for one in made.levels.values()] == [("a", 30), ("b", 70)]


def test_a_level_without_queues_rejects() -> None:
    async def scenario(clock: VirtualClock) -> None:
        made = pool(clock, 4, level("a", 2, borrowingLimitPercent=0), level("b", 2))
        take(made, made.levels["a"], 2)
        assert made.try_enter(made.levels["a"], "f", 1) is None
        with pytest.raises(Rejected) as refused:
            await made.wait(made.levels["a"], "f", 1, 10)
        assert refused.value.reason == "concurrency-limit"

    play(scenario)


def test_free_seats_are_borrowed_but_not_those_that_others_keep() -> None:
    made = pool(VirtualClock(), 10, level("a", 5), level("b", 5, lendablePercent=40))
    a, b = made.levels["a"], made.levels["b"]
    take(made, a, 7)
    assert made.try_enter(a, "f", 1) is None
    take(made, b, 3)
    assert made.try_enter(a, "f", 1) is None


def test_seats_that_come_free_go_to_who_waits() -> None:
    async def scenario(clock: VirtualClock) -> None:
        made = pool(clock, 1, level("a", 1, QUEUES))
        a = made.levels["a"]
        first = take(made, a, 1)[0]
        async with asyncio.TaskGroup() as group:
            second = group.create_task(made.wait(a, "g", 1, 10))
            await clock.sleep(1)
            assert (a.waiting, second.done()) == (1, False)
            made.leave(a, first)
        assert (a.executing, a.waiting) == (1, 0)
        made.leave(a, second.result())
        assert a.executing == 0

    play(scenario)


def test_a_full_queue_and_a_long_wait_are_refused() -> None:
    async def scenario(clock: VirtualClock) -> None:
        made = pool(clock, 1, level("a", 1, {**QUEUES, "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}}))
        a, reasons = made.levels["a"], []
        take(made, a, 1)

        async def one() -> None:
            try:
                await made.wait(a, "f", 1, 5)
            except Rejected as error:
                reasons.append((error.reason, clock.monotonic()))

        begun = clock.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(one())
            group.create_task(one())
        assert reasons == [("queue-full", begun), ("time-out", begun + 5)]
        assert (a.waiting, a.executing) == (0, 1)

    play(scenario)


def test_whoever_gives_up_leaves_no_seat_taken() -> None:
    async def scenario(clock: VirtualClock) -> None:
        made = pool(clock, 1, level("a", 1, QUEUES))
        a = made.levels["a"]
        first = take(made, a, 1)[0]
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(made.wait(a, "g", 1, 100))
            await clock.sleep(1)
            made.leave(a, first)
            waiting.cancel()
        assert (a.executing, a.requests, a.waiting) == (0, 0, 0)

    play(scenario)


def test_an_elephant_does_not_starve_a_mouse() -> None:
    async def scenario(clock: VirtualClock) -> None:
        queues = {"type": "Queue", "queuing": {"queues": 64, "handSize": 4, "queueLengthLimit": 100}}
        made = pool(clock, 2, level("a", 2, queues))
        a, ended = made.levels["a"], []

        async def request(flow: str) -> None:
            ticket = made.try_enter(a, flow, 1) or await made.wait(a, flow, 1, 1000)
            await clock.sleep(1)
            ended.append(flow)
            made.leave(a, ticket)

        async with asyncio.TaskGroup() as group:
            for _ in range(60):
                group.create_task(request("elephant"))
            await clock.sleep(0.5)
            group.create_task(request("mouse"))
        assert ended.index("mouse") < 20

    play(scenario)


def test_a_flow_is_always_dealt_the_same_hand_of_different_queues() -> None:
    hands = [deal(f"flow-{i}", 64, 8) for i in range(50)]
    assert all(len(set(hand)) == 8 and set(hand) <= set(range(64)) for hand in hands)
    assert hands == [deal(f"flow-{i}", 64, 8) for i in range(50)]
    assert len({tuple(hand) for hand in hands}) == 50


def test_a_change_of_the_configuration_keeps_who_is_under_way() -> None:
    made = pool(VirtualClock(), 10, level("a", 1), level("b", 1))
    ticket = take(made, made.levels["a"], 1)[0]
    made.configure([level("b", 1)])
    assert made.levels["a"].executing == 1
    made.leave(made.levels["a"], ticket)
    made.configure([level("b", 1)])
    assert list(made.levels) == ["b"]


def test_whoever_gives_up_in_the_moment_of_its_turn_takes_no_seat_along() -> None:
    async def scenario(clock: VirtualClock) -> None:
        made = pool(clock, 1, level("a", 1, QUEUES))
        a = made.levels["a"]
        first = take(made, a, 1)[0]
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(made.wait(a, "g", 1, 10))
            waits = group.create_task(made.wait(a, "h", 1, 10))
            await clock.sleep(1)
            gone.cancel()  # what it waits for is cancelled now; the task itself learns of it in the next turn
            made.leave(a, first)
            late = group.create_task(made.wait(a, "i", 1, 10))
            made.leave(a, await waits)
        made.leave(a, late.result())
        assert (a.executing, a.requests, a.waiting) == (0, 0, 0)

    play(scenario)


def test_the_next_has_its_turn_when_whoever_was_before_it_gives_up() -> None:
    async def scenario(clock: VirtualClock) -> None:
        one_queue = {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 3}}
        made = pool(clock, 2, level("a", 2, one_queue))
        a = made.levels["a"]
        take(made, a, 1)
        async with asyncio.TaskGroup() as group:
            large = group.create_task(made.wait(a, "g", 2, 10))
            small = group.create_task(made.wait(a, "h", 1, 10))
            await clock.sleep(1)
            large.cancel()
            start = clock.time()
            await small
        assert clock.time() == start

    play(scenario)
