"""Jobs: indexes, limits and policies, restarts in place, orphans, lifecycle and status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.client.resources import JOBS, PODS

Play = Callable[..., None]
NS = "/apis/batch/v1/namespaces/default"
CORE = "/api/v1/namespaces/default"
ONE = f"{NS}/jobs/j"
INDEX = "batch.kubernetes.io/job-completion-index"
FINALIZER = "batch.kubernetes.io/job-tracking"


def job(parallelism: int, completions: int, **spec: Any) -> dict[str, Any]:
    restart = spec.pop("restart", "Never")
    pod = {"restartPolicy": restart, "containers": [{"name": "c", "image": "busybox"}]}
    template = {"metadata": {"labels": {"job": "j"}}, "spec": pod}
    wanted = {"parallelism": parallelism, "completions": completions, "template": template, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": wanted}


def indexed(parallelism: int, completions: int, **spec: Any) -> dict[str, Any]:
    return job(parallelism, completions, completionMode="Indexed", **spec)


def index_of(pod: Any) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def has(type: str, reason: str) -> Callable[[Any], bool]:
    def check(obj: Any) -> bool:
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return any((each["type"], each["status"], each.get("reason")) == (type, "True", reason) for each in conditions)

    return check


def succeeded(number: int) -> Callable[[Any], bool]:
    return lambda obj: bool(obj["status"].get("succeeded", 0) >= number)


async def create(world: Any, body: dict[str, Any]) -> Any:
    return await world.ok("POST", f"{NS}/jobs", body)


async def wait(world: Any, condition: Callable[[Any], bool]) -> Any:
    return await world.cluster.wait(JOBS, "default", "j", condition, timeout=900)


async def ended(world: Any, type: str, reason: str) -> Any:
    """The status when that condition is there, with the one that comes before it."""
    status = (await wait(world, has(type, reason)))["status"]
    before = "SuccessCriteriaMet" if type == "Complete" else "FailureTarget"
    assert [each["type"] for each in status["conditions"]] == [before, type]
    assert (status.get("active", 0), status["ready"], status["terminating"]) == (0, 0, 0)
    return status


async def running(world: Any, count: int) -> list[Any]:
    await wait(world, lambda obj: (obj.get("status") or {}).get("ready") == count)
    return await pods_of(world)


async def pods_of(world: Any) -> list[Any]:
    found: list[Any] = (await world.ok("GET", f"{CORE}/pods"))["items"]
    return found


def test_a_pod_failure_policy_on_an_exit_code_fails_the_job_early(play: Play) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: 42 if index_of(pod) == 0 else None
        rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
        await create(world, indexed(2, 2, podFailurePolicy={"rules": rules}))
        status = await ended(world, "Failed", "PodFailurePolicy")
        message = status["conditions"][-1]["message"]
        assert message.startswith("Container c for pod default/j-0-")
        assert message.endswith(" failed with exit code 42 matching FailJob rule at index 0")

    play(scenario)


@pytest.mark.parametrize("grace", [None, 0])
def test_a_pod_failure_policy_ignores_disruptions(play: Play, grace: int | None) -> None:
    async def scenario(world: Any) -> None:
        rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        await create(world, indexed(2, 2, backoffLimit=0, podFailurePolicy={"rules": rules}))
        first = await running(world, 2)
        for pod in first:
            name = pod["metadata"]["name"]
            options = {} if grace is None else {"gracePeriodSeconds": grace}
            meta = {"name": name, "namespace": "default"}
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta, "deleteOptions": options}
            await world.ok("POST", f"{CORE}/pods/{name}/eviction", eviction)
        world.cluster.nodes.outcome = lambda pod: 0
        status = await ended(world, "Complete", "CompletionsReached")
        assert (status["completedIndexes"], status["succeeded"]) == ("0,1", 2)
        assert "failed" not in status

    play(scenario)


def test_pods_of_an_indexed_job_have_their_index_and_hostname(play: Play) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: 0
        await create(world, indexed(2, 4))
        status = await ended(world, "Complete", "CompletionsReached")
        assert (status["completedIndexes"], status["succeeded"]) == ("0-3", 4)
        made = await pods_of(world)
        assert sorted(map(index_of, made)) == [0, 1, 2, 3]
        for pod in made:
            assert pod["spec"]["hostname"] == f"j-{index_of(pod)}"
            assert pod["metadata"]["labels"][INDEX] == str(index_of(pod))
            assert pod["metadata"]["name"].startswith(f"j-{index_of(pod)}-")
            env = pod["spec"]["containers"][0]["env"][0]
            path = f"metadata.labels['{INDEX}']"
            assert (env["name"], env["valueFrom"]["fieldRef"]["fieldPath"]) == ("JOB_COMPLETION_INDEX", path)

    play(scenario)


@pytest.mark.parametrize(
    ("rule", "done", "indexes"),
    [
        ({"succeededIndexes": "0-1"}, (0, 1), "0,1"),
        ({"succeededIndexes": "0"}, (0,), "0"),
        ({"succeededCount": 1}, (0,), "0"),
    ],
)
def test_a_success_policy_ends_the_job_when_it_is_met(
    play: Play, rule: dict[str, Any], done: tuple[int, ...], indexes: str
) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: 0 if index_of(pod) in done else None
        await create(world, indexed(2, 2, successPolicy={"rules": [rule]}))
        status = await ended(world, "Complete", "SuccessPolicy")
        assert status["conditions"][0]["message"] == "Matched rules at index 0"
        assert (status["completedIndexes"], status["succeeded"]) == (indexes, len(done))
        assert "failed" not in status

    play(scenario)


def test_all_indexes_are_tried_though_some_fail(play: Play) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: index_of(pod) % 2
        await create(world, indexed(2, 4, backoffLimitPerIndex=1))
        status = await ended(world, "Failed", "FailedIndexes")
        assert (status["failedIndexes"], status["completedIndexes"]) == ("1,3", "0,2")
        assert (status["failed"], status["succeeded"]) == (4, 2)
        counts = [pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] for pod in
                  await pods_of(world) if index_of(pod) == 1]  # fmt: skip
        assert sorted(counts) == ["0", "1"]

    play(scenario)


def test_more_failed_indexes_than_allowed_end_the_job(play: Play) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: 1
        await create(world, indexed(1, 4, backoffLimitPerIndex=0, maxFailedIndexes=0))
        status = await ended(world, "Failed", "MaxFailedIndexesExceeded")
        assert (status["failedIndexes"], status["failed"]) == ("0", 1)

    play(scenario)


def test_the_action_fail_index_fails_an_index_at_once(play: Play) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: 42 if index_of(pod) == 1 else 0
        rules = [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]
        await create(world, indexed(2, 2, backoffLimitPerIndex=1, podFailurePolicy={"rules": rules}))
        status = await ended(world, "Failed", "FailedIndexes")
        assert (status["failedIndexes"], status["completedIndexes"], status["failed"]) == ("1", "0", 1)

    play(scenario)


def test_containers_that_are_restarted_in_place_do_not_fail_the_job(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world, job(2, 4, restart="OnFailure"))
        for number in (2, 4):
            for pod in await running(world, 2):
                if pod["status"]["phase"] != "Running":
                    continue
                state = {"name": "c", "image": "busybox", "imageID": "", "ready": True, "restartCount": 1}
                body = {"status": {"containerStatuses": [{**state, "state": {"running": {}}}]}}
                await world.patch(f"{CORE}/pods/{pod['metadata']['name']}/status", body)
            for pod in await pods_of(world):
                if pod["status"]["phase"] == "Running":
                    await world.cluster.nodes.finish(pod)
            await wait(world, succeeded(number))
        status = await ended(world, "Complete", "CompletionsReached")
        assert (status["succeeded"], status.get("failed", 0)) == (4, 0)

    play(scenario)


def test_a_job_is_deleted_with_its_pods(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world, job(2, 4))
        assert len(await running(world, 2)) == 2
        await world.ok("DELETE", ONE, {"kind": "DeleteOptions", "propagationPolicy": "Foreground"})
        await world.cluster.wait_gone(JOBS, "default", "j")
        assert await pods_of(world) == []

    play(scenario)


def test_orphans_are_adopted_and_strangers_released(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, job(2, 4))
        pod = (await running(world, 2))[0]["metadata"]
        url = f"{CORE}/pods/{pod['name']}"
        await world.patch(url, {"metadata": {"ownerReferences": None}})

        def owned(found: Any) -> bool:
            return any(each["uid"] == made["metadata"]["uid"] for each in found["metadata"].get("ownerReferences", ()))

        adopted = await world.cluster.wait(PODS, "default", pod["name"], owned)
        assert adopted["metadata"]["uid"] == pod["uid"]
        await world.clock.sleep(5)
        assert FINALIZER in (await world.ok("GET", url))["metadata"]["finalizers"]
        await world.patch(url, {"metadata": {"labels": None}})
        released = await world.cluster.wait(PODS, "default", pod["name"], lambda found: not owned(found))
        assert FINALIZER not in released["metadata"].get("finalizers", ())
        await world.clock.sleep(5)
        assert len(await running(world, 2)) == 3

    play(scenario)


def test_changes_of_the_status_by_others_stay(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, job(2, 4))
        await running(world, 2)
        at = "2026-01-01T00:00:00Z"
        own = {"type": "CustomConditionType", "status": "True", "lastTransitionTime": at}
        body = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [own]}}
        patched = await world.patch(f"{ONE}/status", body)
        assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
        assert patched["status"]["conditions"][0]["lastTransitionTime"] == at
        await world.clock.sleep(5)
        found = await world.ok("GET", f"{ONE}/status")
        later = {**own, "lastTransitionTime": "2026-01-01T00:00:09Z"}
        changed = {**found, "status": {**found["status"], "conditions": [later]}}
        (shown,) = (await world.ok("PUT", f"{ONE}/status", changed))["status"]["conditions"]
        assert later.items() <= shown.items()
        assert (await world.ok("GET", f"{ONE}/status"))["metadata"]["uid"] == made["metadata"]["uid"]
        world.cluster.nodes.outcome = lambda pod: 0
        for pod in await pods_of(world):
            await world.cluster.nodes.finish(pod)
        done = await wait(world, has("Complete", "CompletionsReached"))
        assert [each["type"] for each in done["status"]["conditions"]] == [
            "CustomConditionType", "SuccessCriteriaMet", "Complete",
        ]  # fmt: skip

    play(scenario)


def test_a_job_is_made_suspended_labelled_resumed_and_deleted_with_others(play: Play) -> None:
    async def scenario(world: Any) -> None:
        world.cluster.nodes.outcome = lambda pod: 0
        body = job(2, 4, suspend=True)
        body["metadata"]["labels"] = {"e2e-job-label": "j"}
        made = await create(world, body)
        patched = await world.patch(ONE, {"metadata": {"labels": {"j": "patched"}}}, "strategic")
        assert patched["metadata"]["labels"]["j"] == "patched"
        assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        await wait(world, has("Suspended", "JobSuspended"))
        assert await pods_of(world) == []
        found = await world.ok("GET", ONE)
        found["spec"]["suspend"] = False
        found["metadata"]["annotations"] = {**found["metadata"].get("annotations", {}), "updated": "true"}
        assert (await world.ok("PUT", ONE, found))["metadata"]["annotations"]["updated"] == "true"
        listed = await world.ok("GET", "/apis/batch/v1/jobs?labelSelector=e2e-job-label=j")
        assert len(listed["items"]) == 1
        done = (await wait(world, has("Complete", "CompletionsReached")))["status"]
        assert done["succeeded"] == 4
        options = {"kind": "DeleteOptions", "propagationPolicy": "Background"}
        await world.ok("DELETE", f"{NS}/jobs?labelSelector=e2e-job-label=j", options)
        await world.cluster.wait_gone(JOBS, "default", "j")
        assert (await world.ok("GET", f"{NS}/jobs"))["items"] == []

    play(scenario)
