"""Jobs and CronJobs on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.client.resources import CRON_JOBS, EVENTS, JOBS, PODS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
FINALIZER = "batch.kubernetes.io/job-tracking"


def job_spec(**spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}
    return {"template": {"spec": pod}, **spec}


def job(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": NS},
        "spec": job_spec(**spec),
    }


def cron_job(schedule: str = "*/1 * * * *", **spec: Any) -> dict[str, Any]:
    meta = {"name": "tick", "namespace": NS}
    wanted = {"schedule": schedule, "jobTemplate": {"spec": job_spec()}, **spec}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": wanted}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def has(type: str) -> Callable[[Object], bool]:
    def check(obj: Object) -> bool:
        conditions = (obj.get("status") or {}).get("conditions") or []
        return any(each["type"] == type and each["status"] == "True" for each in conditions)

    return check


async def pods(cluster: Cluster) -> list[Object]:
    return list((await cluster.client.list(PODS, NS)).items)


async def reasons(cluster: Cluster, kind: str) -> list[str]:
    events = (await cluster.client.list(EVENTS, NS)).items
    return [event["reason"] for event in events if event["involvedObject"]["kind"] == kind]


def test_a_job_completes_and_its_pods_lose_the_finalizer() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.outcome = lambda pod: 0
        await cluster.client.create(JOBS, job())
        done = await cluster.wait(JOBS, NS, "j", has("Complete"), timeout=60)
        status = done["status"]
        assert status["succeeded"] == 1
        assert status["uncountedTerminatedPods"] == {}
        assert status["completionTime"]
        assert [each["type"] for each in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
        (pod,) = await pods(cluster)
        assert FINALIZER not in pod["metadata"].get("finalizers", [])
        assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "j"
        await cluster.clock.sleep(1)
        assert await reasons(cluster, "Job") == ["SuccessfulCreate", "Completed"]

    play(scenario)


def test_parallel_completions_never_exceed_the_parallelism() -> None:
    async def scenario(cluster: Cluster) -> None:
        running: list[int] = []

        def outcome(pod: Object) -> int | None:
            return 0 if len(running) > 0 else None

        await cluster.client.create(JOBS, job(parallelism=2, completions=5))
        await cluster.wait(JOBS, NS, "j", lambda obj: (obj.get("status") or {}).get("ready") == 2)
        for _ in range(5):
            alive = [pod for pod in await pods(cluster) if pod["status"]["phase"] == "Running"]
            assert len(alive) <= 2
            await cluster.nodes.finish(alive[0])
            await cluster.clock.sleep(1)
        done = await cluster.wait(JOBS, NS, "j", has("Complete"), timeout=60)
        assert done["status"]["succeeded"] == 5
        cluster.nodes.outcome = outcome

    play(scenario)


def test_failures_back_off_and_end_the_job_at_its_limit() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.outcome = lambda pod: 1
        await cluster.client.create(JOBS, job(backoffLimit=2))
        failed = await cluster.wait(JOBS, NS, "j", has("Failed"), timeout=600)
        assert failed["status"]["failed"] == 3
        assert failed["status"]["conditions"][-1]["reason"] == "BackoffLimitExceeded"
        assert 30 <= cluster.clock.monotonic() <= 40
        assert len(await pods(cluster)) == 3

    play(scenario)


def test_a_deadline_stops_running_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(JOBS, job(activeDeadlineSeconds=30))
        failed = await cluster.wait(JOBS, NS, "j", has("Failed"), timeout=100)
        assert failed["status"]["conditions"][-1]["reason"] == "DeadlineExceeded"
        assert 29 <= cluster.clock.monotonic() <= 75

    play(scenario)


def test_an_indexed_job_gives_each_pod_its_index_and_lists_the_completed_ones() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.outcome = lambda pod: 0
        await cluster.client.create(JOBS, job(completionMode="Indexed", completions=3, parallelism=3))
        done = await cluster.wait(JOBS, NS, "j", has("Complete"), timeout=60)
        assert done["status"]["completedIndexes"] == "0-2"
        made = await pods(cluster)
        indexes = {pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for pod in made}
        assert indexes == {"0", "1", "2"}
        assert {pod["spec"]["hostname"] for pod in made} == {"j-0", "j-1", "j-2"}

    play(scenario)


def test_a_suspended_job_has_no_pods_until_it_is_resumed() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.outcome = lambda pod: 0
        await cluster.client.create(JOBS, job(suspend=True))
        suspended = await cluster.wait(JOBS, NS, "j", has("Suspended"))
        assert "startTime" not in suspended["status"]
        assert await pods(cluster) == []
        await cluster.client.patch(JOBS, "j", {"spec": {"suspend": False}}, NS, type=MERGE_PATCH)
        await cluster.wait(JOBS, NS, "j", has("Complete"), timeout=60)

    play(scenario)


def test_a_finished_job_is_deleted_after_its_time_to_live() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.outcome = lambda pod: 0
        await cluster.client.create(JOBS, job(ttlSecondsAfterFinished=60))
        await cluster.wait(JOBS, NS, "j", has("Complete"), timeout=30)
        await cluster.clock.sleep(50)
        assert await cluster.exists(JOBS, NS, "j")
        await cluster.wait_gone(JOBS, NS, "j", timeout=30)
        assert await pods(cluster) == []

    play(scenario)


def test_deleting_a_job_deletes_its_running_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(JOBS, job())
        await cluster.wait(JOBS, NS, "j", lambda obj: (obj.get("status") or {}).get("ready") == 1)
        await cluster.client.delete(JOBS, "j", NS, propagation="Background")
        await cluster.clock.sleep(60)
        assert await pods(cluster) == []

    play(scenario)


def test_an_orphan_that_is_being_deleted_is_let_go() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(JOBS, job())
        await cluster.wait(JOBS, NS, "j", lambda obj: (obj.get("status") or {}).get("ready") == 1)
        cluster.nodes.silence("node-1")
        (pod,) = await pods(cluster)
        name = pod["metadata"]["name"]
        await cluster.client.delete(PODS, name, NS)
        await cluster.client.patch(PODS, name, {"metadata": {"ownerReferences": None}}, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(2)
        found = await cluster.client.get(PODS, name, NS)
        assert FINALIZER not in found["metadata"].get("finalizers", [])

    play(scenario)


def test_a_cron_job_makes_a_job_at_the_next_minute_and_keeps_three() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.outcome = lambda pod: 0
        await cluster.clock.sleep(30)
        await cluster.client.create(CRON_JOBS, cron_job())
        await cluster.clock.sleep(29)
        assert (await cluster.client.list(JOBS, NS)).items == ()
        await cluster.clock.sleep(2)
        (first,) = (await cluster.client.list(JOBS, NS)).items
        assert first["metadata"]["name"] == f"tick-{int(cluster.clock.time()) // 60}"
        assert (
            first["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
            == "2026-01-01T00:01:00Z"
        )
        await cluster.clock.sleep(3600)
        jobs = (await cluster.client.list(JOBS, NS)).items
        assert len(jobs) == 3
        status = (await cluster.client.get(CRON_JOBS, "tick", NS))["status"]
        assert status["lastScheduleTime"] == "2026-01-01T01:01:00Z"
        assert "active" not in status
        assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= set(await reasons(cluster, "CronJob"))

    play(scenario)


@pytest.mark.parametrize(("policy", "jobs"), [("Allow", 3), ("Forbid", 1), ("Replace", 1)])
def test_concurrency_policies(policy: str, jobs: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(CRON_JOBS, cron_job(concurrencyPolicy=policy))
        await cluster.clock.sleep(185)
        found = (await cluster.client.list(JOBS, NS)).items
        assert len(found) == jobs
        last = "tick-" + str(int(cluster.clock.time()) // 60)
        assert any(each["metadata"]["name"] == last for each in found) == (policy != "Forbid")

    play(scenario)


def test_missed_starts_are_made_up_for_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(CRON_JOBS, cron_job("*/5 * * * *", suspend=True))
        await cluster.clock.sleep(3600 - 60)
        await cluster.client.patch(CRON_JOBS, "tick", {"spec": {"suspend": False}}, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        (made,) = (await cluster.client.list(JOBS, NS)).items
        assert (
            made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] == "2026-01-01T00:55:00Z"
        )

    play(scenario)
