"""ResourceClaims are made for pods, reserved by them, and go when the pods are done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.client.resources import EVENTS, PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, SERVICE_ACCOUNTS
from tiphys.client.types import Object
from tiphys.controllers.resource_claims import FINALIZER, POD_CLAIM
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CONTROLLERS = "resourceclaim-controller,serviceaccount-controller"
REQUESTS = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpus"}}]}}
FROM_TEMPLATE = {"name": "gpu", "resourceClaimTemplateName": "template"}
NAMED = {"name": "gpu", "resourceClaimName": "own"}
Scenario = Callable[[Cluster], Awaitable[None]]


def run(scenario: Scenario, binder: Any = "") -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, controllers=CONTROLLERS, binder=binder) as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, "default", "default")
            await scenario(cluster)

    clock.run(main())


async def make_template(cluster: Cluster) -> None:
    meta = {"labels": {"team": "a"}, "annotations": {"note": "b"}}
    await cluster.client.create(
        RESOURCE_CLAIM_TEMPLATES,
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "template", "namespace": "default"},
            "spec": {"metadata": meta, "spec": REQUESTS},
        },
    )


async def make_pod(cluster: Cluster, name: str, *entries: Any, node: str = "") -> Object:
    containers = [{"name": "c", "image": "i", "resources": {"claims": [{"name": each["name"]} for each in entries]}}]
    spec = {"containers": containers, "resourceClaims": list(entries), **({"nodeName": node} if node else {})}
    meta = {"name": name, "namespace": "default"}
    return await cluster.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


async def make_claim(cluster: Cluster, *consumers: Object, finalizer: bool = True) -> Object:
    """A claim called "own", allocated and reserved for pods, as the scheduler does it."""
    meta: dict[str, Any] = {"name": "own", "namespace": "default"}
    if finalizer:
        meta["finalizers"] = [FINALIZER]
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": REQUESTS}
    return await allocate(cluster, await cluster.client.create(RESOURCE_CLAIMS, claim), *consumers)


async def allocate(cluster: Cluster, claim: Object, *consumers: Object) -> Object:
    result = {"request": "gpu", "driver": "gpus.example.com", "pool": "node-1", "device": "gpu-0"}
    reserved = [
        {"resource": "pods", "name": each["metadata"]["name"], "uid": each["metadata"]["uid"]} for each in consumers
    ]
    status = {"allocation": {"devices": {"results": [result]}}, **({"reservedFor": reserved} if reserved else {})}
    return await cluster.client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")


async def made(cluster: Cluster) -> list[Object]:
    return list((await cluster.client.list(RESOURCE_CLAIMS, "default")).items)


async def set_phase(cluster: Cluster, name: str, phase: str) -> None:
    pod = await cluster.client.get(PODS, name, "default")
    await cluster.client.update(PODS, {**pod, "status": {**pod["status"], "phase": phase}}, subresource="status")


def test_a_claim_is_made_from_the_template_and_noted_in_the_pod() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_template(cluster)
        pod = await make_pod(cluster, "user", FROM_TEMPLATE)
        pod = await cluster.wait(PODS, "default", "user", lambda it: bool(it["status"].get("resourceClaimStatuses")))
        (claim,) = await made(cluster)
        meta = claim["metadata"]
        assert meta["name"].startswith("user-gpu-")
        assert meta["generateName"] == "user-gpu-"
        assert meta["labels"] == {"team": "a"}
        assert meta["annotations"] == {"note": "b", POD_CLAIM: "gpu"}
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "user", "uid": pod["metadata"]["uid"], "controller": True}
        assert meta["ownerReferences"] == [owner]
        assert claim["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "gpus"
        assert pod["status"]["resourceClaimStatuses"] == [{"name": "gpu", "resourceClaimName": meta["name"]}]

    run(scenario)


def test_a_missing_template_is_told_and_waited_for() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_pod(cluster, "user", FROM_TEMPLATE)
        await cluster.clock.sleep(1)
        (event,) = {
            (each["type"], each["reason"], each["message"], each["source"]["component"])
            for each in (await cluster.client.list(EVENTS, "default")).items
            if each["involvedObject"]["name"] == "user"
        }
        message = (
            'PodResourceClaim gpu: resource claim template "template": '
            'resourceclaimtemplate.resource.k8s.io "template" not found'
        )
        assert event == ("Warning", "FailedResourceClaimCreation", message, "resource_claim")
        await make_template(cluster)
        await cluster.clock.sleep(1)
        assert len(await made(cluster)) == 1

    run(scenario)


def test_a_claim_that_was_deleted_is_made_again_and_the_others_stay_noted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_template(cluster)
        await make_pod(cluster, "user", FROM_TEMPLATE, {**FROM_TEMPLATE, "name": "other"})
        await cluster.clock.sleep(1)
        first = next(each for each in await made(cluster) if each["metadata"]["annotations"][POD_CLAIM] == "gpu")
        await cluster.client.delete(RESOURCE_CLAIMS, first["metadata"]["name"], "default")
        await cluster.clock.sleep(1)
        names = {each["metadata"]["name"] for each in await made(cluster)}
        pod = await cluster.client.get(PODS, "user", "default")
        assert len(names) == 2
        assert {each["resourceClaimName"] for each in pod["status"]["resourceClaimStatuses"]} == names

    run(scenario)


def test_a_claim_made_before_a_restart_is_found_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_pod(cluster, "user", FROM_TEMPLATE)
        pod = await cluster.client.get(PODS, "user", "default")
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "user", "uid": pod["metadata"]["uid"], "controller": True}
        meta = {"name": "user-gpu-x", "namespace": "default", "annotations": {POD_CLAIM: "gpu"}}
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": REQUESTS}
        await cluster.client.create(RESOURCE_CLAIMS, {**claim, "metadata": {**meta, "ownerReferences": [owner]}})
        await make_template(cluster)
        await cluster.clock.sleep(1)
        pod = await cluster.client.get(PODS, "user", "default")
        assert pod["status"]["resourceClaimStatuses"] == [{"name": "gpu", "resourceClaimName": "user-gpu-x"}]
        assert len(await made(cluster)) == 1

    run(scenario)


def test_a_pod_that_no_scheduler_placed_gets_its_reservation() -> None:
    async def scenario(cluster: Cluster) -> None:
        pod = await make_pod(cluster, "user", NAMED, node="node-1")
        await make_claim(cluster)
        claim = await cluster.wait(RESOURCE_CLAIMS, "default", "own", lambda it: "reservedFor" in it["status"])
        assert claim["status"]["reservedFor"] == [{"resource": "pods", "name": "user", "uid": pod["metadata"]["uid"]}]

    run(scenario)


def test_the_last_pod_that_goes_frees_the_claim() -> None:
    async def scenario(cluster: Cluster) -> None:
        first, second = await make_pod(cluster, "first", NAMED), await make_pod(cluster, "second", NAMED)
        await make_claim(cluster, first, second)
        await cluster.clock.sleep(5)
        await cluster.client.delete(PODS, "first", "default", grace_seconds=0)
        claim = await cluster.wait(RESOURCE_CLAIMS, "default", "own", lambda it: len(it["status"]["reservedFor"]) == 1)
        assert claim["status"]["reservedFor"][0]["name"] == "second"
        assert claim["status"]["allocation"]
        await set_phase(cluster, "second", "Succeeded")
        claim = await cluster.wait(RESOURCE_CLAIMS, "default", "own", lambda it: not it["metadata"].get("finalizers"))
        assert not claim.get("status")

    run(scenario)


def test_a_consumer_that_never_was_is_taken_out() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_claim(cluster, {"metadata": {"name": "ghost", "uid": "7f3a0dd4-8c0c-4d9f-bb3b-2b1e3c9a6e11"}})
        claim = await cluster.wait(RESOURCE_CLAIMS, "default", "own", lambda it: not it["metadata"].get("finalizers"))
        assert not claim.get("status")

    run(scenario)


def test_a_claim_made_for_a_pod_is_deleted_when_the_pod_has_ended() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_template(cluster)
        pod = await make_pod(cluster, "user", FROM_TEMPLATE)
        await cluster.clock.sleep(1)
        (claim,) = await made(cluster)
        claim = await cluster.client.update(
            RESOURCE_CLAIMS, {**claim, "metadata": {**claim["metadata"], "finalizers": [FINALIZER]}}
        )
        await allocate(cluster, claim, pod)
        await cluster.clock.sleep(1)
        assert len(await made(cluster)) == 1
        await set_phase(cluster, "user", "Failed")
        await cluster.wait_gone(RESOURCE_CLAIMS, "default", claim["metadata"]["name"])
        await cluster.clock.sleep(3600)
        assert await made(cluster) == []

    run(scenario)


def test_a_claim_that_is_being_deleted_and_unused_is_let_go() -> None:
    async def scenario(cluster: Cluster) -> None:
        await make_claim(cluster)
        await cluster.client.delete(RESOURCE_CLAIMS, "own", "default")
        await cluster.wait_gone(RESOURCE_CLAIMS, "default", "own", timeout=5)

    run(scenario)


def test_an_unused_allocation_stays() -> None:
    async def scenario(cluster: Cluster) -> None:
        before = await make_claim(cluster)
        await cluster.clock.sleep(600)
        assert await cluster.client.get(RESOURCE_CLAIMS, "own", "default") == before

    run(scenario)


def test_the_claim_of_extended_resources_goes_with_its_pod() -> None:
    async def scenario(cluster: Cluster) -> None:
        pod = await make_pod(cluster, "user")
        extended = {
            "resourceClaimName": "own",
            "requestMappings": [{"containerName": "c", "resourceName": "example.com/gpu", "requestName": "gpu"}],
        }
        status = {**pod["status"], "extendedResourceClaimStatus": extended}
        await cluster.client.update(PODS, {**pod, "status": status}, subresource="status")
        await make_claim(cluster, pod)
        await cluster.clock.sleep(1)
        await cluster.client.delete(PODS, "user", "default", grace_seconds=0)
        claim = await cluster.wait(RESOURCE_CLAIMS, "default", "own", lambda it: not it["metadata"].get("finalizers"))
        assert not claim.get("status")

    run(scenario)
