"""Claims and volumes in use stay until nobody uses them."""

from __future__ import annotations

from typing import Any

from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
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
