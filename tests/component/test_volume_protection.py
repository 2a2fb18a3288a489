"""Claims and volumes in use stay until nobody uses them."""

from __future__ import annotations

from typing import Any

from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES
from tiphys.client.types import MERGE_PATCH
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster
from volume_world import CONTROLLERS, in_cluster

CLAIM: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "default"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
VOLUME: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "disk"},
    "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/disk"}},
}
USER: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "user", "namespace": "default"},
    "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
    },
}


def test_an_unused_claim_and_an_unbound_volume_go_at_once() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, controllers=CONTROLLERS) as cluster:
            await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
            await cluster.client.create(PERSISTENT_VOLUMES, VOLUME)
            await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
            await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
            await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, "default", "data")
            await cluster.wait_gone(PERSISTENT_VOLUMES, "", "disk")

    clock.run(scenario())


def test_a_claim_that_a_pod_uses_goes_after_the_pod() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, controllers=CONTROLLERS) as cluster:
            await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
            await cluster.client.create(PODS, USER)
            await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
            await clock.sleep(60)
            held = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data", "default")
            assert held["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
            await cluster.client.delete(PODS, "user", "default", grace_seconds=0)
            await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, "default", "data")

    clock.run(scenario())


def test_a_class_of_attributes_goes_after_the_volume_that_has_it() -> None:
    clock = VirtualClock()
    fast = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttributesClass",
        "metadata": {"name": "fast"},
        "driverName": "d.example.com",
        "parameters": {"iops": "1"},
    }
    csi = {"driver": "d.example.com", "volumeHandle": "h"}
    spec = {name: value for name, value in VOLUME["spec"].items() if name != "hostPath"}
    volume = {**VOLUME, "spec": {**spec, "csi": csi, "volumeAttributesClassName": "fast"}}

    async def scenario() -> None:
        async with Cluster(clock, controllers=CONTROLLERS) as cluster:
            await cluster.client.create(VOLUME_ATTRIBUTES_CLASSES, fast)
            await cluster.client.create(PERSISTENT_VOLUMES, volume)
            await cluster.client.delete(VOLUME_ATTRIBUTES_CLASSES, "fast")
            await clock.sleep(60)
            held = await cluster.client.get(VOLUME_ATTRIBUTES_CLASSES, "fast")
            assert held["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
            await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
            await cluster.wait_gone(VOLUME_ATTRIBUTES_CLASSES, "", "fast")

    clock.run(scenario())


async def held(cluster: Cluster) -> bool:
    """Whether the claim, which is being deleted, is still there when everybody has had time to look at it."""
    await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    await cluster.clock.sleep(60)
    return await cluster.exists(PERSISTENT_VOLUME_CLAIMS, "default", "data")


def test_a_pod_without_a_node_does_not_hold_its_claim() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
        await cluster.client.create(PODS, USER)
        assert not await held(cluster)

    in_cluster(scenario, binder="")


def test_a_pod_that_is_over_holds_its_claim_until_it_is_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
        await cluster.client.create(PODS, USER)
        running = await cluster.wait(PODS, "default", "user", lambda o: o["status"].get("phase") == "Running")
        await cluster.nodes.finish(running)
        assert await held(cluster)
        await cluster.client.delete(PODS, "user", "default", grace_seconds=0)
        await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, "default", "data")

    in_cluster(scenario)


def test_a_claim_of_a_pod_goes_although_a_finalizer_holds_the_pods_object() -> None:
    volumes = [{"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM["spec"]}}}]
    meta = {"name": "user", "namespace": "default", "finalizers": ["example.com/held"]}

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, {**USER, "metadata": meta, "spec": {**USER["spec"], "volumes": volumes}})
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, "default", "user-e")
        await cluster.wait(PODS, "default", "user", lambda o: o["status"].get("phase") == "Running")
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "user-e", "default")
        await cluster.clock.sleep(60)
        assert await cluster.exists(PERSISTENT_VOLUME_CLAIMS, "default", "user-e")
        await cluster.client.delete(PODS, "user", "default", grace_seconds=0)
        await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, "default", "user-e")
        assert await cluster.exists(PODS, "default", "user")

    in_cluster(scenario)


def test_objects_that_lost_their_finalizer_get_it_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
        await cluster.client.create(PERSISTENT_VOLUMES, VOLUME)
        for resource, name, namespace in (
            (PERSISTENT_VOLUME_CLAIMS, "data", "default"),
            (PERSISTENT_VOLUMES, "disk", ""),
        ):
            bare = {"metadata": {"finalizers": None}}
            await cluster.client.patch(resource, name, bare, namespace, type=MERGE_PATCH)
            await cluster.wait(resource, namespace, name, lambda o: bool(o["metadata"].get("finalizers")))

    in_cluster(scenario)


def test_a_bound_volume_goes_after_its_claim() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PERSISTENT_VOLUMES, VOLUME)
        await cluster.client.create(
            PERSISTENT_VOLUME_CLAIMS, {**CLAIM, "spec": {**CLAIM["spec"], "storageClassName": ""}}
        )
        await cluster.wait(PERSISTENT_VOLUMES, "", "disk", lambda o: o["status"]["phase"] == "Bound")
        await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
        await cluster.clock.sleep(60)
        assert await cluster.exists(PERSISTENT_VOLUMES, "", "disk")
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
        await cluster.wait_gone(PERSISTENT_VOLUMES, "", "disk")

    in_cluster(scenario)


def test_many_claims_of_a_namespace_go_together() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(30):
            await cluster.client.create(
                PERSISTENT_VOLUME_CLAIMS, {**CLAIM, "metadata": {"name": f"c{number}", "namespace": "default"}}
            )
        await cluster.client.call("DELETE", "/api/v1/namespaces/default/persistentvolumeclaims")
        for number in range(30):
            await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, "default", f"c{number}")

    in_cluster(scenario)
