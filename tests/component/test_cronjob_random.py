"""CronJobs by random schedules, suspensions and crashes, against a simple reckoning by single minutes."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from tiphys.client.resources import CRON_JOBS, JOBS
from tiphys.client.types import MERGE_PATCH
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
DAY = 86400
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


def cron_job(schedule: str, **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}
    wanted = {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": pod}}}, **spec}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": NS}, "spec": wanted}


class Times:
    """A schedule, as text and as what it means."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        minute, self.minutes = self._field(0, 59, few=True)
        hour, self.hours = self._field(0, 23)
        day, self.days = self._field(1, 31)
        weekday, self.weekdays = self._field(0, 6)
        self.either = not {day, weekday} & {"*", "?"}
        self.text = f"{minute} {hour} {day} * {weekday}"

    def _field(self, low: int, high: int, *, few: bool = False) -> tuple[str, set[int]]:
        full = range(low, high + 1)
        kind = self._chance.choice(["list", "step"] if few else ["any", "any", "list", "step", "range"])
        if kind == "any":
            return self._chance.choice("*?" if low == 1 else "*"), set(full)
        if kind == "step":
            step = self._chance.randint(7 if few else 2, high)
            return f"*/{step}", set(full[::step])
        if kind == "range":
            first, last = sorted(self._chance.choices(full, k=2))
            return f"{first}-{last}", set(range(first, last + 1))
        values = self._chance.sample(full, 3)
        return ",".join(map(str, values)), set(values)

    def match(self, at: float) -> bool:
        time = datetime.fromtimestamp(at, UTC)
        of_month, of_week = time.day in self.days, time.isoweekday() % 7 in self.weekdays
        day = of_month or of_week if self.either else of_month and of_week
        return day and time.minute in self.minutes and time.hour in self.hours


async def starts(cluster: Cluster) -> list[int]:
    """The times in the Jobs' names, in order."""
    jobs = (await cluster.client.list(JOBS, NS)).items
    for job in jobs:
        when = datetime.fromisoformat(job["metadata"]["annotations"][SCHEDULED])
        assert job["metadata"]["name"] == f"tick-{int(when.timestamp()) // 60}"
    return sorted(int(job["metadata"]["name"].rpartition("-")[2]) * 60 for job in jobs)


@pytest.mark.parametrize("seed", range(6))
def test_a_job_is_started_at_every_time_of_a_schedule_and_at_no_other(seed: int) -> None:
    clock = VirtualClock()
    times = Times(random.Random(seed))

    async def scenario() -> None:
        async with Cluster(clock, nodes=0, controllers="cronjob") as cluster:
            await clock.sleep(30)
            await cluster.client.create(CRON_JOBS, cron_job(times.text))
            begin = int(clock.time())
            await clock.sleep(2 * DAY)
            expected = [at for at in range(begin - begin % 60 + 60, int(clock.time()), 60) if times.match(at)]
            assert await starts(cluster) == expected, times.text

    try:
        clock.run(scenario())
    finally:
        clock.close()


class Reckoning:
    """What should have been started, minute by minute; `every` is the schedule's distance in minutes."""

    def __init__(self, now: float, every: int, deadline: int | None) -> None:
        self._every, self._deadline = every, deadline
        self._now = self._last = int(now)
        self.awake = True
        self.starts: list[int] = []

    def advance(self, now: float) -> None:
        due = [at for at in range(self._now + 1, int(now) + 1) if at % (60 * self._every) == 0]
        for at in due if self.awake else ():
            self._start(at)
        self._now = int(now)

    def wake(self, now: float) -> None:
        """Awake again: the latest time that was missed is made up for, if it is not too long ago."""
        self.awake = True
        since = self._last if self._deadline is None else max(self._last, now - self._deadline)
        latest = int(now) // (60 * self._every) * 60 * self._every
        if latest > since:
            self._start(latest)

    def _start(self, at: int) -> None:
        if at not in self.starts:
            self.starts.append(at)
        self._last = at


class Managers:
    """The controllers' process, which stops and starts."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        await self._stack.enter_async_context(background(self._run))
        await self._cluster.clock.sleep(1)

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _run(self) -> None:
        config = manager.ManagerConfig(connect=self._cluster.connect)
        await manager.run(self._cluster.connect(MANAGER), self._cluster.clock, "cronjob", config)


@pytest.mark.parametrize("seed", range(5))
def test_after_suspensions_and_crashes_only_the_latest_missed_time_is_made_up_for(seed: int) -> None:
    clock = VirtualClock()
    chance = random.Random(seed)
    every, deadline = chance.choice([1, 2, 5, 10, 15]), chance.choice([None, None, 50, 200, 1000])

    async def scenario() -> None:
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            managers = Managers(cluster)
            await managers.start()
            await clock.sleep(30)
            limit = {} if deadline is None else {"startingDeadlineSeconds": deadline}
            await cluster.client.create(CRON_JOBS, cron_job(f"*/{every} * * * *", **limit))
            reckoning = Reckoning(clock.time(), every, deadline)
            for _ in range(15):
                await clock.sleep((30 - clock.time()) % 60 + 60 * chance.randint(1, 25))
                reckoning.advance(clock.time())
                suspended = chance.random() < 0.5
                await (set_suspended(cluster, True) if suspended else managers.stop())
                reckoning.awake = False
                await clock.sleep(60 * chance.randint(0, 90))
                await (set_suspended(cluster, False) if suspended else managers.start())
                reckoning.advance(clock.time())
                reckoning.wake(clock.time())
            await clock.sleep(5)
            assert await starts(cluster) == reckoning.starts
            status = (await cluster.client.get(CRON_JOBS, "tick", NS))["status"]
            last = datetime.fromisoformat(status["lastScheduleTime"]).timestamp()
            assert last == reckoning.starts[-1]
            await managers.stop()

    try:
        clock.run(scenario())
    finally:
        clock.close()


async def set_suspended(cluster: Cluster, value: bool) -> None:
    await cluster.client.patch(CRON_JOBS, "tick", {"spec": {"suspend": value}}, NS, type=MERGE_PATCH)
    await cluster.clock.sleep(1)
