"""Claims and volumes in use stay until nobody uses them."""

from __future__ import annotations

from typing import Any

from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

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
        async with Cluster(clock) as cluster:
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
        async with Cluster(clock) as cluster:
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
        async with Cluster(clock) as cluster:
            await cluster.client.create(VOLUME_ATTRIBUTES_CLASSES, fast)
            await cluster.client.create(PERSISTENT_VOLUMES, volume)
            await cluster.client.delete(VOLUME_ATTRIBUTES_CLASSES, "fast")
            await clock.sleep(60)
            held = await cluster.client.get(VOLUME_ATTRIBUTES_CLASSES, "fast")
            assert held["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
            await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
            await cluster.wait_gone(VOLUME_ATTRIBUTES_CLASSES, "", "fast")

    clock.run(scenario())
