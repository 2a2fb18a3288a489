"""Claims, volumes and classes for tests of storage, and what to wait for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import EVENTS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
CONTROLLERS = (
    "namespace,serviceaccount,garbagecollector,persistentvolume-binder,persistentvolume-expander,ephemeral-volume,"
    "pvc-protection,pv-protection,volumeattributesclass-protection-controller"
)


def in_cluster(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run `scenario` on a cluster of its own."""
    clock = VirtualClock()

    async def run() -> None:
        async with Cluster(clock, **{"controllers": CONTROLLERS, **options}) as cluster:
            await scenario(cluster)

    try:
        clock.run(run())
    finally:
        clock.close()


def claim(name: str = "data", size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any) -> Any:
    """A claim without a class, unless `spec` says otherwise; no class at all is storageClassName=None."""
    resources = {"requests": {"storage": size}}
    body = {"storageClassName": "", "accessModes": list(modes), "resources": resources, **spec}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NS},
        "spec": {key: value for key, value in body.items() if value is not None},
    }


def volume(name: str = "disk", size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any) -> Any:
    body = {"capacity": {"storage": size}, "accessModes": list(modes), **spec}
    if not {"csi", "nfs", "local", "iscsi"} & body.keys():
        body.setdefault("hostPath", {"path": f"/srv/{name}"})
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": body}


def storage_class(name: str, provisioner: str = "example.com/disks", mode: str = "Immediate", **more: Any) -> Any:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, **more.pop("metadata", {})},
        "provisioner": provisioner,
        "volumeBindingMode": mode,
        **more,
    }


def pod(name: str, claim_name: str, **spec: Any) -> Any:
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": claim_name}}]
    body = {"containers": [{"name": "c", "image": "i"}], "volumes": volumes, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS}, "spec": body}


def marked(obj: Any, **annotations: str) -> Any:
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


async def create(cluster: Cluster, *objects: Any) -> None:
    for obj in objects:
        claims = obj["kind"] == "PersistentVolumeClaim"
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS if claims else PERSISTENT_VOLUMES, obj)


async def claim_in(cluster: Cluster, phase: str, name: str = "data", timeout: float = 60.0) -> Object:
    """The claim when it is in that phase."""
    return await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, name, lambda o: o["status"]["phase"] == phase, timeout)


async def volume_in(cluster: Cluster, phase: str, name: str = "disk", timeout: float = 60.0) -> Object:
    """The volume when it is in that phase."""
    return await cluster.wait(PERSISTENT_VOLUMES, "", name, lambda o: o["status"]["phase"] == phase, timeout)


async def get_claim(cluster: Cluster, name: str = "data") -> Object:
    return await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, name, NS)


async def get_volume(cluster: Cluster, name: str = "disk") -> Object:
    return await cluster.client.get(PERSISTENT_VOLUMES, name)


async def change_volume(cluster: Cluster, patch: Any, name: str = "disk") -> Object:
    return await cluster.client.patch(PERSISTENT_VOLUMES, name, patch, type=MERGE_PATCH)


async def change_claim(cluster: Cluster, patch: Any, name: str = "data") -> Object:
    return await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, name, patch, NS, type=MERGE_PATCH)


async def told(cluster: Cluster, name: str, reason: str) -> list[tuple[str, str]]:
    """(type, message) of the events about `name` with that reason, once everybody has said what there is to say."""
    await cluster.clock.sleep(1)
    events = (await cluster.client.list(EVENTS, NS)).items
    return [
        (each["type"], each["message"])
        for each in events
        if each["involvedObject"]["name"] == name and each["reason"] == reason
    ]
