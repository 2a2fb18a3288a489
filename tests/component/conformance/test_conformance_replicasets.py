"""ReplicaSets and ReplicationControllers: replicas, adoption and release, scale, status, quotas, lifecycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tiphys.client.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS
from tiphys.client.types import Resource

Play = Callable[..., None]
CORE = "/api/v1/namespaces/default"
LABELS = {"name": "web"}


@dataclass(frozen=True)
class Api:
    """One of the two that do the same."""

    kind: str
    resource: Resource

    @property
    def all(self) -> str:
        return self.resource.path("default")

    @property
    def one(self) -> str:
        return self.resource.path("default", "r")

    def object(self, replicas: int, name: str = "r") -> dict[str, Any]:
        group = f"{self.resource.group}/" if self.resource.group else ""
        selector: Any = {"matchLabels": LABELS} if group else LABELS
        return {
            "apiVersion": f"{group}{self.resource.version}",
            "kind": self.kind,
            "metadata": {"name": name, "labels": {"test": "r"}},
            "spec": {"replicas": replicas, "selector": selector, "template": template()},
        }


BOTH = [Api("ReplicaSet", REPLICA_SETS), Api("ReplicationController", REPLICATION_CONTROLLERS)]
each = pytest.mark.parametrize("api", BOTH, ids=lambda api: str(api.kind))


def template(image: str = "httpd:1") -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": image}]}}


def counts(number: int) -> Callable[[Any], bool]:
    def check(obj: Any) -> bool:
        status = obj.get("status") or {}
        caught_up = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
        return bool(caught_up and all(status.get(f, 0) == number for f in ("replicas", "availableReplicas")))

    return check


def failing(obj: Any) -> Any:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == "ReplicaFailure"), None)


def types(obj: Any) -> list[str]:
    """Those of its conditions."""
    return [each["type"] for each in obj["status"].get("conditions", ())]


async def wait(world: Any, api: Api, condition: Callable[[Any], bool]) -> Any:
    return await world.cluster.wait(api.resource, "default", "r", condition, timeout=300)


@each
def test_each_replica_runs(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", api.all, api.object(2))
        status = (await wait(world, api, counts(2)))["status"]
        assert (status["readyReplicas"], status["fullyLabeledReplicas"]) == (2, 2)
        assert ("terminatingReplicas" in status) is (api.kind == "ReplicaSet")
        events = (await world.ok("GET", f"{CORE}/events"))["items"]
        told = [event for event in events if event["involvedObject"]["kind"] == api.kind]
        assert {event["reason"] for event in told} == {"SuccessfulCreate"}
        source = "replicaset-controller" if api.kind == "ReplicaSet" else "replication-controller"
        assert {event["source"]["component"] for event in told} == {source}

    play(scenario)


@each
def test_a_pod_that_matches_is_adopted_and_released_when_it_does_not_any_more(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orphan", "labels": LABELS}}
        await world.ok("POST", f"{CORE}/pods", {**pod, "spec": template()["spec"]})
        await world.cluster.wait(PODS, "default", "orphan", lambda found: found["status"].get("phase") == "Running")
        made = await world.ok("POST", api.all, api.object(1))

        def owned(found: Any) -> bool:
            owners = found["metadata"].get("ownerReferences", ())
            return any(owner["uid"] == made["metadata"]["uid"] and owner["controller"] for owner in owners)

        await world.cluster.wait(PODS, "default", "orphan", owned)
        await world.clock.sleep(5)
        assert len((await world.ok("GET", f"{CORE}/pods"))["items"]) == 1
        await world.patch(f"{CORE}/pods/orphan", {"metadata": {"labels": {"name": "not-matching-name"}}})
        await world.cluster.wait(PODS, "default", "orphan", lambda found: not owned(found))
        await world.clock.sleep(5)
        assert len((await world.ok("GET", f"{CORE}/pods"))["items"]) == 2

    play(scenario)


@each
def test_a_quota_that_is_exceeded_shows_in_a_condition_until_it_is_not(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        meta = {"name": "two", "namespace": "default"}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": {"pods": "2"}}}
        await world.ok("POST", f"{CORE}/resourcequotas", quota)
        await world.clock.sleep(5)
        await world.ok("POST", api.all, api.object(3))
        found = failing(await wait(world, api, lambda obj: failing(obj) is not None))
        assert (found["status"], found["reason"]) == ("True", "FailedCreate")
        assert found["message"].endswith(
            "is forbidden: exceeded quota: two, requested: pods=1, used: pods=2, limited: pods=2"
        )
        await world.patch(api.one, {"spec": {"replicas": 2}})
        await wait(world, api, lambda obj: counts(2)(obj) and failing(obj) is None)
        reasons = [(event["reason"], event["message"]) for event in (await world.ok("GET", f"{CORE}/events"))["items"]]
        assert any(reason == "FailedCreate" and words.startswith("Error creating: pods ") for reason, words in reasons)

    play(scenario)


@each
def test_the_scale_is_read_updated_and_patched(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", api.all, api.object(1))
        await wait(world, api, counts(1))
        scale = await world.ok("GET", f"{api.one}/scale")
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
        scale["metadata"]["resourceVersion"] = ""
        scale["spec"]["replicas"] = 2
        assert (await world.ok("PUT", f"{api.one}/scale", scale))["spec"]["replicas"] == 2
        assert (await wait(world, api, counts(2)))["spec"]["replicas"] == 2
        await world.patch(f"{api.one}/scale", {"spec": {"replicas": 4}})
        assert (await wait(world, api, counts(4)))["spec"]["replicas"] == 4

    play(scenario)


@each
def test_it_is_replaced_and_patched(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", api.all, api.object(1))
        await wait(world, api, counts(1))
        scaled = await world.ok("GET", api.one)
        scaled["spec"]["replicas"] = 2
        await world.ok("PUT", api.one, scaled)
        await wait(world, api, counts(2))
        body = {"metadata": {"labels": {"test": "patched"}}, "spec": {"replicas": 3, "template": template("httpd:2")}}
        patched = await world.patch(api.one, body)
        assert patched["metadata"]["labels"]["test"] == "patched"
        await wait(world, api, counts(3))
        images = [pod["spec"]["containers"][0]["image"] for pod in (await world.ok("GET", f"{CORE}/pods"))["items"]]
        assert sorted(images) == ["httpd:1", "httpd:1", "httpd:2"]

    play(scenario)


@each
def test_the_status_is_read_patched_and_updated(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", api.all, api.object(1))
        await wait(world, api, counts(1))
        found = await world.ok("GET", f"{api.one}/status")
        assert found["status"]["replicas"] == 1
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        found["status"]["conditions"] = [condition]
        updated = await world.ok("PUT", f"{api.one}/status", found)
        assert types(updated) == ["StatusUpdate"]
        await world.clock.sleep(5)
        assert types(await world.ok("GET", api.one)) == ["StatusUpdate"]
        patched = {**condition, "type": "StatusPatched"}
        answer = await world.patch(f"{api.one}/status", {"status": {"conditions": [patched]}})
        assert types(answer) == ["StatusPatched"]
        shown = await world.patch(f"{api.one}/status", {"status": {"readyReplicas": 0, "availableReplicas": 0}})
        assert shown["status"].get("readyReplicas", 0) == 0
        await wait(world, api, counts(1))

    play(scenario)


@each
def test_a_collection_is_listed_and_deleted(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", api.all, api.object(3))
        await wait(world, api, counts(3))
        assert len((await world.ok("GET", f"{api.resource.path()}?labelSelector=test=r"))["items"]) == 1
        options = {"kind": "DeleteOptions", "propagationPolicy": "Background"}
        await world.ok("DELETE", f"{api.all}?labelSelector=test=r", options)
        assert (await world.ok("GET", f"{api.all}?labelSelector=test=r"))["items"] == []
        await world.clock.sleep(60)
        assert (await world.ok("GET", f"{CORE}/pods"))["items"] == []

    play(scenario)


@each
def test_a_watch_sees_all_of_its_life(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        since = (await world.ok("GET", api.all))["metadata"]["resourceVersion"]
        await world.ok("POST", api.all, api.object(1))
        await wait(world, api, counts(1))
        await world.patch(api.one, {"metadata": {"labels": {"test": "patched"}}})
        await world.patch(f"{api.one}/status", {"status": {"readyReplicas": 0, "availableReplicas": 0}})
        await wait(world, api, counts(1))
        await world.patch(f"{api.one}/scale", {"spec": {"replicas": 2}})
        await wait(world, api, counts(2))
        await world.ok("DELETE", api.one)
        await world.cluster.wait_gone(api.resource, "default", "r")
        watch = world.cluster.client.watch(api.resource, "default", resource_version=since, timeout=1)
        seen = [event async for event in watch if event.type != "BOOKMARK"]
        assert [seen[0].type, seen[-1].type] == ["ADDED", "DELETED"]
        assert {event.type for event in seen[1:-1]} == {"MODIFIED"}
        assert any(event.object["metadata"]["labels"]["test"] == "patched" for event in seen)
        assert any(event.object["status"].get("readyReplicas", 0) == 0 for event in seen[3:-1])
        assert any(counts(2)(event.object) for event in seen)

    play(scenario)
