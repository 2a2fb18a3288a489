"""Pods leave devices that are tainted with NoExecute, when their claims' tolerations end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.client.resources import EVENTS, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES, SERVICE_ACCOUNTS
from tiphys.client.types import Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CONTROLLERS = "device-taint-eviction-controller,serviceaccount-controller"
DRIVER = "gpus.example.com"
TAINT = {"key": "broken", "value": "yes", "effect": "NoExecute"}
Scenario = Callable[[Cluster], Awaitable[None]]


def run(scenario: Scenario) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, controllers=CONTROLLERS) as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, "default", "default")
            await scenario(cluster)

    clock.run(main())


async def publish(cluster: Cluster, *taints: Any, generation: int = 1, name: str = "slice-1") -> Object:
    spec = {
        "driver": DRIVER,
        "nodeName": "node-1",
        "pool": {"name": "node-1", "generation": generation, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "taints": list(taints)}, {"name": "gpu-1", "taints": [TAINT]}],
    }
    made = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name}, "spec": spec}
    return await cluster.client.create(RESOURCE_SLICES, made)


async def taint(cluster: Cluster, slice: Object, *taints: Any) -> Object:
    devices = [{**slice["spec"]["devices"][0], "taints": list(taints)}, *slice["spec"]["devices"][1:]]
    return await cluster.client.update(RESOURCE_SLICES, {**slice, "spec": {**slice["spec"], "devices": devices}})


async def use(cluster: Cluster, *tolerations: Any) -> None:
    """A pod on its node with a claim for gpu-0."""
    container = {"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}
    spec = {
        "nodeName": "node-1",
        "containers": [container],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "own"}],
    }
    meta = {"name": "user", "namespace": "default"}
    pod = await cluster.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    exactly = {"deviceClassName": "gpus", "tolerations": list(tolerations)}
    requests = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    claim = await cluster.client.create(
        RESOURCE_CLAIMS,
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {**meta, "name": "own"},
            "spec": requests,
        },
    )
    result = {
        "request": "gpu",
        "driver": DRIVER,
        "pool": "node-1",
        "device": "gpu-0",
        "tolerations": list(tolerations),
    }
    status = {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "name": "user", "uid": pod["metadata"]["uid"]}],
    }
    await cluster.client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")


async def told(cluster: Cluster) -> list[str]:
    return [
        each["message"]
        for each in (await cluster.client.list(EVENTS, "default")).items
        if each["reason"] == "DeviceTaintManagerEviction"
    ]


def test_a_pod_leaves_a_tainted_device_and_is_told_why() -> None:
    async def scenario(cluster: Cluster) -> None:
        slice = await publish(cluster)
        await use(cluster)
        await cluster.clock.sleep(60)
        pod = await cluster.client.get(PODS, "user", "default")
        held = {**pod, "metadata": {**pod["metadata"], "finalizers": ["example.com/hold"]}}
        await cluster.client.update(PODS, held)
        await taint(cluster, slice, TAINT)
        pod = await cluster.wait(
            PODS, "default", "user", lambda it: bool(it["metadata"].get("deletionTimestamp")), timeout=5
        )
        (condition,) = [each for each in pod["status"]["conditions"] if each["type"] == "DisruptionTarget"]
        assert (condition["status"], condition["reason"], condition["message"]) == (
            "True",
            "DeletionByDeviceTaintManager",
            "Device Taint manager: deleting due to NoExecute taint",
        )
        assert await told(cluster) == ["Marking for deletion"]

    run(scenario)


def test_a_toleration_grants_some_time_from_when_the_taint_was_added() -> None:
    async def scenario(cluster: Cluster) -> None:
        slice = await publish(cluster)
        await use(cluster, {"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 100})
        await taint(cluster, slice, TAINT)
        await cluster.clock.sleep(95)
        assert await cluster.exists(PODS, "default", "user")
        await cluster.wait_gone(PODS, "default", "user", timeout=10)

    run(scenario)


def test_a_taint_that_is_removed_in_time_cancels_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        slice = await publish(cluster)
        await use(cluster, {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 100})
        slice = await taint(cluster, slice, TAINT)
        await cluster.clock.sleep(50)
        await taint(cluster, slice)
        await cluster.clock.sleep(600)
        assert await cluster.exists(PODS, "default", "user")
        assert await told(cluster) == ["Cancelling deletion"]

    run(scenario)


def test_taints_that_do_not_evict_and_older_slices_do_not_matter() -> None:
    async def scenario(cluster: Cluster) -> None:
        await publish(cluster, TAINT, name="old")
        await publish(cluster, {**TAINT, "effect": "NoSchedule"}, generation=2, name="new")
        await use(cluster)
        await cluster.clock.sleep(600)
        assert await cluster.exists(PODS, "default", "user")
        await cluster.client.delete(RESOURCE_SLICES, "new")
        await cluster.wait_gone(PODS, "default", "user", timeout=10)

    run(scenario)


def test_a_claim_that_tolerates_everything_stays() -> None:
    async def scenario(cluster: Cluster) -> None:
        await publish(cluster, TAINT)
        await use(cluster, {"operator": "Exists", "effect": "NoExecute"})
        await cluster.clock.sleep(600)
        assert await cluster.exists(PODS, "default", "user")

    run(scenario)
