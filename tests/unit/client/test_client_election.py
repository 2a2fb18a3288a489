from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.errors import ServiceUnavailable
from tiphys.client.election import Election, ElectionConfig, LeadershipLost


def test_one_leads_and_the_next_takes_over_when_it_stops(run: Any, client: Any, clock: Any) -> None:
    async def scenario() -> list[tuple[str, float]]:
        led: list[tuple[str, float]] = []

        async def candidate(identity: str) -> None:
            async def work() -> None:
                led.append((identity, round(clock.monotonic())))
                await clock.sleep(60)

            await Election(client, clock, ElectionConfig("manager", identity)).lead(work)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(candidate("one"))
            tasks.create_task(candidate("two"))
        return led

    (first, at_first), (second, at_second) = run(scenario())
    assert (first, at_first, second) == ("one", 0, "two")
    assert 60 <= at_second <= 62


def test_a_leader_that_vanished_is_replaced_when_its_lease_runs_out(run: Any, client: Any, clock: Any) -> None:
    async def scenario() -> float:
        vanished = Election(client, clock, ElectionConfig("manager", "one"))
        assert await vanished._try()

        async def work() -> None:
            return None

        await Election(client, clock, ElectionConfig("manager", "two")).lead(work)
        return float(clock.monotonic())

    assert 15 <= run(scenario()) <= 18


def test_a_leader_that_cannot_renew_stops_working(run: Any, client: Any, clock: Any, server: Any) -> None:
    async def scenario() -> float:
        async def work() -> None:
            server.fail = [ServiceUnavailable("down")] * 100
            await clock.sleep(1000)

        with pytest.raises(LeadershipLost):
            await Election(client, clock, ElectionConfig("manager", "one")).lead(work)
        return float(clock.monotonic())

    assert 10 <= run(scenario()) <= 13
