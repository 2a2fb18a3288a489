"""Garbage collection as the suite asks for it: controllers and Deployments, with their pods, on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, REPLICATION_CONTROLLERS

Play = Callable[..., None]
NS = "/api/v1/namespaces/default"
CONTROLLERS = f"{NS}/replicationcontrollers"
PODS = f"{NS}/pods"
SETS = "/apis/apps/v1/namespaces/default/replicasets"
CONTAINERS = {"containers": [{"name": "nginx", "image": "nginx"}]}
TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"app": "gc"}}, "spec": CONTAINERS}


def controller(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    template = {**TEMPLATE, "metadata": {"labels": labels}}
    spec = {"replicas": replicas, "selector": labels, "template": template}
    return {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name}, "spec": spec}


def options(propagation: str) -> dict[str, Any]:
    return {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}


async def made(world: Any, name: str, replicas: int) -> Any:
    await world.ok("POST", CONTROLLERS, controller(name, replicas))

    def complete(obj: Any) -> bool:
        return bool(((obj.get("status") or {}).get("readyReplicas") or 0) == replicas)

    return await world.cluster.wait(REPLICATION_CONTROLLERS, "default", name, complete, 120)


async def pods(world: Any) -> list[Any]:
    return list((await world.ok("GET", PODS))["items"])


async def gone(world: Any, url: str, seconds: int = 60) -> None:
    for _ in range(seconds):
        if (await world.http("GET", url)).status == 404:
            return
        await world.clock.sleep(1)
    raise AssertionError(f"{url} is still there")


def owners(obj: Any) -> list[str]:
    return [each["name"] for each in obj["metadata"].get("ownerReferences") or ()]


def test_pods_of_a_controller_go_with_it(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await made(world, "simpletest", 10)
        await world.ok("DELETE", f"{CONTROLLERS}/simpletest", options("Background"))
        await gone(world, f"{CONTROLLERS}/simpletest", 5)
        await world.clock.sleep(60)
        assert await pods(world) == []

    play(scenario)


@pytest.mark.parametrize(
    "body", [options("Orphan"), {"kind": "DeleteOptions", "apiVersion": "v1", "orphanDependents": True}]
)
def test_pods_of_a_controller_stay_when_it_is_deleted_so(play: Play, body: dict[str, Any]) -> None:
    async def scenario(world: Any) -> None:
        await made(world, "simpletest", 20)
        await world.ok("DELETE", f"{CONTROLLERS}/simpletest", body)
        await gone(world, f"{CONTROLLERS}/simpletest", 30)
        await world.clock.sleep(30)
        left = await pods(world)
        assert len(left) == 20
        assert {name for each in left for name in owners(each)} == set()

    play(scenario)


def test_replica_sets_of_a_deployment_stay_when_it_is_deleted_so(play: Play) -> None:
    async def scenario(world: Any) -> None:
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": "gc"}}, "template": TEMPLATE}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
        where = "/apis/apps/v1/namespaces/default/deployments"
        await world.ok("POST", where, deployment)
        ready = lambda obj: (obj.get("status") or {}).get("readyReplicas") == 2  # noqa: E731 - one condition
        await world.cluster.wait(DEPLOYMENTS, "default", "web", ready, 120)
        await world.ok("DELETE", f"{where}/web", options("Orphan"))
        await gone(world, f"{where}/web", 30)
        await world.clock.sleep(30)
        (left,) = (await world.ok("GET", SETS))["items"]
        assert owners(left) == []
        assert len(await pods(world)) == 2

    play(scenario)


def test_a_controller_stays_until_its_pods_have_gone_if_its_deletion_says_so(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await made(world, "simpletest", 10)
        held = (await pods(world))[0]["metadata"]["name"]
        await world.patch(f"{PODS}/{held}", {"metadata": {"finalizers": ["example.com/wait"]}})
        await world.ok("DELETE", f"{CONTROLLERS}/simpletest", options("Foreground"))
        await world.clock.sleep(60)
        waiting = await world.ok("GET", f"{CONTROLLERS}/simpletest")
        assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
        assert [each["metadata"]["name"] for each in await pods(world)] == [held]
        await world.patch(f"{PODS}/{held}", {"metadata": {"finalizers": None}})
        await gone(world, f"{CONTROLLERS}/simpletest")
        assert await pods(world) == []

    play(scenario)


def test_pods_with_another_owner_outlive_a_controller_that_waits_for_the_rest(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await made(world, "simpletest-rc-to-be-deleted", 10)
        stays = await made(world, "simpletest-rc-to-stay", 0)
        meta = stays["metadata"]
        owner = {"apiVersion": "v1", "kind": "ReplicationController", "name": meta["name"], "uid": meta["uid"]}
        for each in (await pods(world))[:5]:
            patch = {"metadata": {"ownerReferences": [owner]}}
            await world.patch(f"{PODS}/{each['metadata']['name']}", patch, "strategic")
        await world.ok("DELETE", f"{CONTROLLERS}/simpletest-rc-to-be-deleted", options("Foreground"))
        await gone(world, f"{CONTROLLERS}/simpletest-rc-to-be-deleted")
        left = await pods(world)
        assert [owners(each) for each in left] == [["simpletest-rc-to-stay"]] * 5
        assert not any("deletionTimestamp" in each["metadata"] for each in left)

    play(scenario)


def test_three_pods_in_a_circle_all_go(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = []
        for number in (1, 2, 3):
            body = {"apiVersion": "v1", "kind": "Pod", **TEMPLATE, "metadata": {"name": f"pod{number}"}}
            made.append((await world.ok("POST", PODS, body))["metadata"])
        for mine, other in zip(made, [made[2], made[0], made[1]], strict=True):
            owner = {"apiVersion": "v1", "kind": "Pod", "name": other["name"], "uid": other["uid"]}
            blocking = {**owner, "controller": True, "blockOwnerDeletion": True}
            await world.patch(f"{PODS}/{mine['name']}", {"metadata": {"ownerReferences": [blocking]}}, "strategic")
        await world.clock.sleep(5)
        await world.ok("DELETE", f"{PODS}/pod1", options("Foreground"))
        for number in (1, 2, 3):
            await gone(world, f"{PODS}/pod{number}", 90)

    play(scenario)


def definition() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "gcs", "singular": "gc", "kind": "Gc", "listKind": "GcList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gcs.mygroup.example.com"},
        "spec": {"group": "mygroup.example.com", "names": names, "scope": "Cluster", "versions": [version]},
    }


def test_custom_objects_own_and_orphan_each_other(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition())

        def served(obj: Any) -> bool:
            conditions = (obj.get("status") or {}).get("conditions") or ()
            return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

        await world.cluster.wait(CUSTOM_RESOURCE_DEFINITIONS, "", "gcs.mygroup.example.com", served, 30)
        where, version = "/apis/mygroup.example.com/v1beta1/gcs", "mygroup.example.com/v1beta1"

        async def make(name: str, *given: Any) -> Any:
            meta = {"name": name, "ownerReferences": list(given)}
            held = (await world.ok("POST", where, {"apiVersion": version, "kind": "Gc", "metadata": meta}))["metadata"]
            return {"apiVersion": version, "kind": "Gc", "name": name, "uid": held["uid"]}

        owner = await make("owner")
        await make("dependent", owner)
        await world.ok("DELETE", f"{where}/owner", options("Background"))
        await gone(world, f"{where}/dependent")
        second = await make("second")
        await make("kept", second)
        await world.clock.sleep(5)
        await world.ok("DELETE", f"{where}/second", options("Orphan"))
        await gone(world, f"{where}/second")
        await world.clock.sleep(30)
        assert owners(await world.ok("GET", f"{where}/kept")) == []

    play(scenario)


def test_a_cron_jobs_jobs_go_with_it(play: Play) -> None:
    async def scenario(world: Any) -> None:
        pod = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "OnFailure"}}
        spec = {"schedule": "*/1 * * * *", "jobTemplate": {"spec": {"template": pod}}}
        where = "/apis/batch/v1/namespaces/default"
        body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "simple"}, "spec": spec}
        await world.ok("POST", f"{where}/cronjobs", body)
        await world.clock.sleep(130)
        assert (await world.ok("GET", f"{where}/jobs"))["items"]
        await world.ok("DELETE", f"{where}/cronjobs/simple", options("Background"))
        await world.clock.sleep(60)
        assert (await world.ok("GET", f"{where}/jobs"))["items"] == []

    play(scenario)
