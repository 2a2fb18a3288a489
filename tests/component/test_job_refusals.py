"""Jobs, CronJobs and ReplicaSets whose pods are refused: what is told, how often, and that nothing else breaks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import CRON_JOBS, EVENTS, JOBS, PODS, REPLICA_SETS
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
QUOTAS = Resource("", "v1", "resourcequotas")
LIMITS = Resource("", "v1", "limitranges")
POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def named(kind: str, api: str, spec: dict[str, Any], name: str = "j") -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NS}, "spec": spec}


def job(**spec: Any) -> dict[str, Any]:
    return named("Job", "batch/v1", {"template": {"spec": POD}, **spec})


async def forbid_pods(cluster: Cluster, allowed: int) -> None:
    await cluster.client.create(QUOTAS, named("ResourceQuota", "v1", {"hard": {"pods": str(allowed)}}, "q"))
    await cluster.clock.sleep(5)


async def told(cluster: Cluster, reason: str) -> tuple[int, str]:
    """(how often, in which words at first) that was told of something."""
    events = [event for event in (await cluster.client.list(EVENTS, NS)).items if event["reason"] == reason]
    return sum(event.get("count", 1) for event in events), min((event["message"] for event in events), default="")


def test_refused_pods_are_tried_again_after_one_second_then_two_then_four() -> None:
    async def scenario(cluster: Cluster) -> None:
        await forbid_pods(cluster, 0)
        await cluster.client.create(JOBS, job())
        expected = {0.5: 1, 2: 2, 5: 3, 10: 4, 20: 5}
        begun = cluster.clock.monotonic()
        for after, count in expected.items():
            await cluster.clock.sleep(begun + after - cluster.clock.monotonic())
            assert (await told(cluster, "FailedCreate"))[0] == count
        words = (await told(cluster, "FailedCreate"))[1]
        assert words.startswith('Error creating: pods "j-')
        assert words.endswith('" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0')
        status = (await cluster.client.get(JOBS, "j", NS))["status"]
        assert "active" not in status
        assert status["startTime"]

    play(scenario)


def test_what_there_was_room_for_runs_and_the_rest_follows() -> None:
    async def scenario(cluster: Cluster) -> None:
        await forbid_pods(cluster, 2)
        await cluster.client.create(JOBS, job(parallelism=3, completions=3))
        await cluster.wait(JOBS, NS, "j", lambda obj: (obj.get("status") or {}).get("active") == 2, timeout=30)
        cluster.nodes.outcome = lambda pod: 0
        for pod in (await cluster.client.list(PODS, NS)).items:
            await cluster.nodes.finish(pod)
        done = await cluster.wait(JOBS, NS, "j", ended("Complete"), timeout=300)
        assert done["status"]["succeeded"] == 3

    play(scenario)


def ended(type: str) -> Callable[[Object], bool]:
    def check(obj: Object) -> bool:
        return any(each["type"] == type for each in (obj.get("status") or {}).get("conditions") or ())

    return check


def test_a_replica_set_says_why_its_pods_are_refused() -> None:
    async def scenario(cluster: Cluster) -> None:
        limit = {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}
        await cluster.client.create(LIMITS, named("LimitRange", "v1", limit, "l"))
        two = {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}
        pod = {"containers": [{"name": "c", "image": "busybox", "resources": two}]}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": pod}
        spec = {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        await cluster.client.create(REPLICA_SETS, named("ReplicaSet", "apps/v1", spec))
        found = await cluster.wait(REPLICA_SETS, NS, "j", ended("ReplicaFailure"), timeout=30)
        (condition,) = found["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("True", "FailedCreate")
        assert condition["message"].endswith(" is forbidden: maximum cpu usage per Container is 1, but limit is 2")
        assert (await told(cluster, "FailedCreate"))[1].startswith('Error creating: pods "j-')
        await cluster.client.patch(REPLICA_SETS, "j", {"spec": {"replicas": 0}}, NS, type=MERGE_PATCH)
        await cluster.wait(REPLICA_SETS, NS, "j", lambda obj: not ended("ReplicaFailure")(obj), timeout=30)

    play(scenario)


def test_a_cron_job_whose_jobs_are_refused_tells_so_and_goes_on() -> None:
    async def scenario(cluster: Cluster) -> None:
        hard = {"hard": {"count/jobs.batch": "0"}}
        await cluster.client.create(QUOTAS, named("ResourceQuota", "v1", hard, "none"))
        await cluster.clock.sleep(5)
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": POD}}}}
        await cluster.client.create(CRON_JOBS, named("CronJob", "batch/v1", spec))
        await cluster.clock.sleep(65)
        words = (await told(cluster, "FailedCreate"))[1]
        assert words.startswith('Error creating job: jobs.batch "j-')
        assert "is forbidden: exceeded quota: none, requested: count/jobs.batch=1" in words
        await cluster.client.delete(QUOTAS, "none", NS)
        await cluster.clock.sleep(65)
        assert (await told(cluster, "SuccessfulCreate"))[0] >= 1

    play(scenario)


def test_a_cron_job_whose_active_jobs_have_no_uid_goes_on() -> None:
    async def scenario(cluster: Cluster) -> None:
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": POD}}}}
        await cluster.client.create(CRON_JOBS, named("CronJob", "batch/v1", spec))
        status = {"status": {"active": [{"kind": "Job"}, {"name": "x"}]}}
        await cluster.client.patch(CRON_JOBS, "j", status, NS, type=MERGE_PATCH, subresource="status")
        await cluster.clock.sleep(65)
        (active,) = (await cluster.client.get(CRON_JOBS, "j", NS))["status"]["active"]
        assert active["name"].startswith("j-")
        assert await told(cluster, "MissingJob") == (2, "Active job went missing: ")

    play(scenario)


def test_a_new_schedule_counts_from_its_next_time_on() -> None:
    async def scenario(cluster: Cluster) -> None:
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": POD}}}}
        await cluster.client.create(CRON_JOBS, named("CronJob", "batch/v1", spec))
        await cluster.clock.sleep(3000)
        await cluster.client.patch(CRON_JOBS, "j", {"spec": {"schedule": "*/7 * * * *"}}, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(30)
        assert (await cluster.client.list(JOBS, NS)).items == ()
        await cluster.clock.sleep(420)
        (made,) = (await cluster.client.list(JOBS, NS)).items
        annotation = made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert annotation == "2026-01-01T00:56:00Z"

    play(scenario)
