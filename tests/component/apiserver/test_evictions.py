"""pods/eviction by itself: what a budget refuses and how it says so, preconditions, dry runs, races."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tiphys.apiserver.subresources import eviction_budget

Play = Callable[[Callable[[Any], Awaitable[None]]], None]
PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."


async def pod(world: Any, name: str, phase: str = "Running", *, ready: bool = True, app: str = "web") -> Any:
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    meta = {"name": name, "labels": {"app": app}}
    made = await world.json("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    conditions = [{"type": "Ready", "status": str(ready)}]
    made["status"] = {**made["status"], "phase": phase, "conditions": conditions}
    return await world.json("PUT", f"{PODS}/{name}/status", made)


async def budget(world: Any, name: str = "web", app: str = "web", policy: str | None = None, **status: Any) -> Any:
    spec: dict[str, Any] = {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}
    if policy is not None:
        spec["unhealthyPodEvictionPolicy"] = policy
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}
    made = await world.json("POST", BUDGETS, body)
    zero = {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    made["status"] = {"observedGeneration": made["metadata"]["generation"], **zero, **status}
    return await world.json("PUT", f"{BUDGETS}/{name}/status", made)


async def evict(world: Any, name: str, query: str = "", **options: Any) -> tuple[int, Any]:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    if options:
        body["deleteOptions"] = options
    answer = await world.http("POST", f"{PODS}/{name}/eviction{query}", body)
    return answer.status, answer


async def refusal(world: Any, name: str) -> str:
    status, answer = await evict(world, name)
    said = await world.json("POST", f"{PODS}/{name}/eviction", eviction_of(name))
    assert (status, said["reason"], said["message"]) == (429, "TooManyRequests", VIOLATES)
    assert "Retry-After" not in answer.headers
    cause = said["details"]["causes"][0]
    assert cause["reason"] == "DisruptionBudget"
    return str(cause["message"])


def eviction_of(name: str, **options: Any) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}


def denied(reason: str, message: str) -> list[dict[str, str]]:
    since = "2026-01-01T00:00:00Z"
    told = {"reason": reason, "message": message, "lastTransitionTime": since}
    return [{"type": "DisruptionAllowed", "status": "False", **told}]


def test_a_refusal_tells_what_the_budget_knows(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for app in "abcd":
            await pod(world, app, app=app)
        await budget(world, "a", "a")
        await budget(world, "b", "b", currentHealthy=3, conditions=denied("SyncFailed", "no such kind"))
        await budget(world, "c", "c", currentHealthy=3, conditions=denied("Busy", "wait"))
        await budget(world, "d", "d", currentHealthy=3, conditions=denied("InsufficientPods", ""))
        currently = "does not allow evicting pods currently"
        assert await refusal(world, "a") == "The disruption budget a needs 1 healthy pods and has 1 currently"
        assert await refusal(world, "b") == f"The disruption budget b {currently} because it failed sync: no such kind"
        assert await refusal(world, "c") == f"The disruption budget c {currently} (Busy): wait"
        assert await refusal(world, "d") == f"The disruption budget d {currently}"

    play(scenario)


def test_a_budget_that_was_not_looked_at_yet_says_when_to_come_back(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await pod(world, "p")
        await budget(world, observedGeneration=0, disruptionsAllowed=5)
        status, answer = await evict(world, "p")
        assert (status, answer.headers["Retry-After"]) == (429, "10")
        said = await world.json("POST", f"{PODS}/p/eviction", eviction_of("p"))
        assert said["details"]["retryAfterSeconds"] == 10
        text = "The disruption budget web is still being processed by the server."
        assert said["details"]["causes"][0]["message"] == text

    play(scenario)


def test_two_budgets_of_one_pod_are_not_supported(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await pod(world, "p")
        await budget(world, "one", disruptionsAllowed=1)
        await budget(world, "two", disruptionsAllowed=1)
        said = await world.json("POST", f"{PODS}/p/eviction", eviction_of("p"))
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        assert (said["code"], said["message"], said.get("reason")) == (500, text, None)

    play(scenario)


def test_the_last_disruption_closes_the_budget_and_notes_the_pod(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await pod(world, "p")
        await budget(world, disruptionsAllowed=1, currentHealthy=2)
        status, _ = await evict(world, "p", gracePeriodSeconds=7)
        assert status == 201
        left = (await world.json("GET", f"{BUDGETS}/web"))["status"]
        condition = left["conditions"][0]
        assert (left["disruptionsAllowed"], list(left["disruptedPods"])) == (0, ["p"])
        assert (condition["status"], condition["reason"], condition["observedGeneration"]) == (
            "False", "InsufficientPods", 1,
        )  # fmt: skip
        gone = await world.json("GET", f"{PODS}/p")
        assert gone["metadata"]["deletionGracePeriodSeconds"] == 7
        target = gone["status"]["conditions"][-1]
        assert (target["type"], target["reason"]) == ("DisruptionTarget", "EvictionByEvictionAPI")
        assert target["message"] == "Eviction API: evicting"

    play(scenario)


@pytest.mark.parametrize("phase", ["Pending", "Failed", "Succeeded"])
def test_pods_that_do_not_run_go_without_asking(play: Play, phase: str) -> None:
    async def scenario(world: Any) -> None:
        await pod(world, "p", phase, ready=False)
        await budget(world)
        status, _ = await evict(world, "p")
        assert status == 201
        assert (await world.json("GET", f"{BUDGETS}/web"))["status"].get("disruptedPods") is None

    play(scenario)


@pytest.mark.parametrize(
    ("policy", "healthy", "expected"),
    [(None, 1, 201), (None, 0, 429), ("IfHealthyBudget", 1, 201), ("IfHealthyBudget", 0, 429), ("AlwaysAllow", 0, 201)],
)
def test_unready_pods_go_as_the_policy_says(play: Play, policy: str | None, healthy: int, expected: int) -> None:
    async def scenario(world: Any) -> None:
        await pod(world, "p", ready=False)
        await budget(world, policy=policy, currentHealthy=healthy)
        status, _ = await evict(world, "p")
        assert status == expected
        if expected == 201:
            gone = await world.json("GET", f"{PODS}/p")
            assert gone["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"

    play(scenario)


@pytest.mark.parametrize("phase", ["Running", "Pending"])
def test_preconditions_hold(play: Play, phase: str) -> None:
    async def scenario(world: Any) -> None:
        made = await pod(world, "p", phase)
        wrong = eviction_of("p", preconditions={"uid": "other"})
        said = await world.json("POST", f"{PODS}/p/eviction", wrong)
        assert said["code"] == 409
        uid = made["metadata"]["uid"]
        text = f"the UID in the precondition (other) does not match the UID in record ({uid})"
        assert said["message"].startswith(f'Operation cannot be fulfilled on Pod "p": {text}')
        said = await world.json("POST", f"{PODS}/p/eviction", eviction_of("p", preconditions={"resourceVersion": "1"}))
        assert said["code"] == 409
        assert "the ResourceVersion in the precondition (1) does not match" in said["message"]
        unmarked = await world.json("GET", f"{PODS}/p")
        assert unmarked["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        right = {"uid": uid, "resourceVersion": made["metadata"]["resourceVersion"]}
        status, _ = await evict(world, "p", preconditions=right)
        assert status == 201

    play(scenario)


def test_a_dry_run_changes_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        before = await pod(world, "p"), await budget(world, disruptionsAllowed=1)
        assert (await evict(world, "p", "?dryRun=All"))[0] == 201
        assert (await evict(world, "p", dryRun=["All"]))[0] == 201
        assert (await world.json("GET", f"{PODS}/p"), await world.json("GET", f"{BUDGETS}/web")) == before

    play(scenario)


def test_what_the_body_must_say(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await pod(world, "p")
        nameless = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {}}
        said = await world.json("POST", f"{PODS}/p/eviction", nameless)
        assert (said["code"], said["message"]) == (400, "name in URL does not match name in Eviction object")
        unsafe = eviction_of("p", ignoreStoreReadErrorWithClusterBreakingPotential=True)
        assert (await world.json("POST", f"{PODS}/p/eviction", unsafe))["code"] == 422
        old = {**eviction_of("p"), "apiVersion": "policy/v1beta1"}
        assert (await world.http("POST", f"{PODS}/p/eviction", old)).status == 201

    play(scenario)


def test_evictions_at_the_same_moment_never_take_more_than_there_is(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for number in range(40):
            await pod(world, f"p{number}")
        await budget(world, disruptionsAllowed=7, currentHealthy=40, desiredHealthy=33, expectedPods=40)
        answers = await asyncio.gather(*(evict(world, f"p{number}") for number in range(40)))
        assert sorted(status for status, _ in answers) == [201] * 7 + [429] * 33
        left = (await world.json("GET", f"{BUDGETS}/web"))["status"]
        assert (left["disruptionsAllowed"], len(left["disruptedPods"])) == (0, 7)
        pods = (await world.json("GET", PODS))["items"]
        assert sum("deletionTimestamp" in each["metadata"] for each in pods) == 7

    play(scenario)


def test_a_budget_that_never_hears_of_its_evictions_stops_them() -> None:
    status = {"disruptionsAllowed": 1, "disruptedPods": {str(number): "" for number in range(2001)}}
    refused = eviction_budget.refusal({"metadata": {"name": "web"}, "status": status})
    assert refused is not None
    assert (refused.code, refused.message) == (
        403,
        'poddisruptionbudget.policy "web" is forbidden: '
        "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
    )


def test_a_negative_allowance_is_forbidden() -> None:
    refused = eviction_budget.refusal({"metadata": {"name": "web"}, "status": {"disruptionsAllowed": -1}})
    assert refused is not None
    assert (refused.code, refused.message) == (
        403, 'poddisruptionbudget.policy "web" is forbidden: pdb disruptions allowed is negative',
    )  # fmt: skip
