"""CronJobs: concurrency, suspension, and their API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.client.streams import closing
from tiphys.client.types import Resource

Play = Callable[..., None]
NS = "/apis/batch/v1/namespaces/default"
ALL = "labelSelector=special-label=cj"
CRON_JOBS = Resource("batch", "v1", "cronjobs")


def cron_job(name: str = "cj", schedule: str = "*/1 * * * ?", **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "busybox"}]}
    wanted = {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": pod}}}, **spec}
    meta = {"name": name, "labels": {"special-label": "cj"}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": wanted}


async def jobs_of(world: Any) -> list[Any]:
    found: list[Any] = (await world.ok("GET", f"{NS}/jobs"))["items"]
    return found


async def active(world: Any) -> list[str]:
    status = (await world.ok("GET", f"{NS}/cronjobs/cj")).get("status", {})
    return [each["name"] for each in status.get("active", ())]


def test_jobs_run_side_by_side_if_they_may(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/cronjobs", cron_job(concurrencyPolicy="Allow"))
        await world.clock.sleep(125)
        assert len(await active(world)) == len(await jobs_of(world)) == 2

    play(scenario)


def test_a_suspended_cron_job_starts_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/cronjobs", cron_job(suspend=True))
        await world.clock.sleep(300)
        assert await active(world) == await jobs_of(world) == []

    play(scenario)


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
def test_a_job_that_still_runs_keeps_the_next_one_from_starting_or_makes_room(play: Play, policy: str) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/cronjobs", cron_job(concurrencyPolicy=policy))
        await world.clock.sleep(65)
        (first,) = await active(world)
        await world.clock.sleep(60)
        (second,) = await active(world)
        assert [job["metadata"]["name"] for job in await jobs_of(world)] == [second]
        assert (second == first) is (policy == "Forbid")

    play(scenario)


def test_every_verb_of_the_api_works(play: Play) -> None:
    async def scenario(world: Any) -> None:
        one = f"{NS}/cronjobs/cj"
        made = await world.ok("POST", f"{NS}/cronjobs", cron_job(schedule="* */1 * * ?"))
        assert (await world.ok("GET", one))["metadata"]["uid"] == made["metadata"]["uid"]
        listed = await world.ok("GET", f"{NS}/cronjobs?{ALL}")
        assert len(listed["items"]) == len((await world.ok("GET", f"/apis/batch/v1/cronjobs?{ALL}"))["items"]) == 1
        await world.patch(one, {"metadata": {"annotations": {"patched": "true"}}})
        found = await world.ok("GET", one)
        found["metadata"]["annotations"]["updated"] = "true"
        await world.ok("PUT", one, found)
        assert await notes(world, listed["metadata"]["resourceVersion"]) == ["patched", "updated"]
        await change_status(world, f"{one}/status")
        await world.ok("POST", f"{NS}/cronjobs", cron_job("for-removal"))
        await world.ok("DELETE", f"{NS}/cronjobs/for-removal")
        assert (await world.http("GET", f"{NS}/cronjobs/for-removal")).status == 404
        await world.ok("DELETE", f"{NS}/cronjobs?{ALL}")
        assert (await world.ok("GET", f"{NS}/cronjobs?{ALL}"))["items"] == []

    play(scenario)


async def notes(world: Any, since: str) -> list[str]:
    """Annotations that a watch of all namespaces sees come, in order."""
    seen: list[str] = []
    watch = world.cluster.client.watch(CRON_JOBS, labels="special-label=cj", resource_version=since, timeout=1)
    async with closing(watch) as events:
        async for event in events:
            if event.type == "MODIFIED":
                seen += [note for note in event.object["metadata"].get("annotations", {}) if note not in seen]
    return seen


async def change_status(world: Any, url: str) -> None:
    body = {"metadata": {"annotations": {"s": "true"}}, "status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}
    patched = await world.patch(url, body)
    assert patched["status"]["lastScheduleTime"] == "2026-01-01T00:00:00Z"
    assert patched["metadata"]["annotations"]["s"] == "true"
    found = await world.ok("GET", url)
    found["status"]["lastScheduleTime"] = "2026-01-01T00:00:01Z"
    assert (await world.ok("PUT", url, found))["status"]["lastScheduleTime"] == "2026-01-01T00:00:01Z"
