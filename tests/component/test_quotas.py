"""Quotas on kinds of every sort: defined later and gone again, devices, storage; by the clock and after odd writes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.base.errors import Forbidden
from tiphys.client.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    LEASES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    SERVICE_ACCOUNTS,
)
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
WIDGETS = Resource("example.com", "v1", "widgets")
CLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims")


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        controllers = "resourcequota-controller,serviceaccount-controller"
        async with Cluster(clock, nodes=0, controllers=controllers) as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, NS, "default", timeout=10)
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


async def limit(cluster: Cluster, hard: dict[str, str], **spec: Any) -> None:
    meta = {"name": "q", "namespace": NS}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard, **spec}}
    await cluster.client.create(RESOURCE_QUOTAS, quota)


async def used(cluster: Cluster, wanted: dict[str, str], seconds: float = 5) -> Object:
    """Wait until so much is used, and nothing else is told."""
    return await cluster.wait(
        RESOURCE_QUOTAS,
        NS,
        "q",
        lambda each: "status" in each and (each["status"].get("used") or {}) == wanted,
        seconds,
    )


def definition() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]}
    meta = {"name": "widgets.example.com"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta, "spec": spec,
    }  # fmt: skip


def widget(name: str) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": NS}}


def test_a_kind_that_is_defined_later_goes_and_comes_back_is_counted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await limit(cluster, {"count/widgets.example.com": "1"})
        await used(cluster, {})
        for _ in range(2):
            await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition())
            await used(cluster, {"count/widgets.example.com": "0"}, 60)
            await cluster.client.create(WIDGETS, widget("one"))
            with pytest.raises(Forbidden, match=r"exceeded quota: q, requested: count/widgets.example.com=1"):
                await cluster.client.create(WIDGETS, widget("two"))
            await cluster.client.delete(WIDGETS, "one", NS)
            await used(cluster, {"count/widgets.example.com": "0"})
            await cluster.client.create(WIDGETS, widget("two"))
            await used(cluster, {"count/widgets.example.com": "1"})
            await cluster.client.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.com")
            await cluster.clock.sleep(10)

    play(scenario)


def test_devices_are_counted_by_their_class() -> None:
    async def scenario(cluster: Cluster) -> None:
        name = "gpu.deviceclass.resource.k8s.io/devices"
        await limit(cluster, {name: "4"})
        await used(cluster, {name: "0"})

        async def claim(suffix: str, count: int) -> None:
            asked = {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count}
            meta = {"name": f"c{suffix}", "namespace": NS}
            spec = {"devices": {"requests": [{"name": "r", "exactly": asked}]}}
            body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": spec}
            await cluster.client.create(CLAIMS, body)

        await claim("1", 3)
        await used(cluster, {name: "3"})
        with pytest.raises(Forbidden, match=f"requested: {name}=2, used: {name}=3, limited: {name}=4"):
            await claim("2", 2)
        await cluster.client.delete(CLAIMS, "c1", NS)
        await used(cluster, {name: "0"})
        await claim("2", 2)
        await used(cluster, {name: "2"})

    play(scenario)


def test_a_claim_that_is_promised_more_counts_for_more() -> None:
    async def scenario(cluster: Cluster) -> None:
        name = "gold.storageclass.storage.k8s.io/requests.storage"
        await limit(cluster, {name: "20Gi", "persistentvolumeclaims": "2"})
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}
        meta = {"name": "c", "namespace": NS}
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta}
        await used(cluster, {name: "0", "persistentvolumeclaims": "0"})
        await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, {**body, "spec": {**wanted, "storageClassName": "gold"}})
        held = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "c", NS)
        status = {"allocatedResources": {"storage": "7Gi"}}
        await cluster.client.update(PERSISTENT_VOLUME_CLAIMS, {**held, "status": status}, subresource="status")
        await used(cluster, {name: "7Gi", "persistentvolumeclaims": "1"})
        free = {"metadata": {"finalizers": None}}
        await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, "c", free, NS, type=MERGE_PATCH)
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", NS)
        await used(cluster, {name: "0", "persistentvolumeclaims": "0"})

    play(scenario)


def test_a_pod_that_does_not_end_counts_no_more_when_its_time_is_over() -> None:
    async def scenario(cluster: Cluster) -> None:
        await limit(cluster, {"pods": "5", "count/pods": "5"})
        await used(cluster, {"pods": "0", "count/pods": "0"})
        spec = {"containers": [{"name": "c", "image": "nginx"}], "nodeName": "far", "terminationGracePeriodSeconds": 30}
        meta = {"name": "p", "namespace": NS}
        await cluster.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        await used(cluster, {"pods": "1", "count/pods": "1"})
        await cluster.client.delete(PODS, "p", NS)
        await cluster.clock.sleep(50)
        assert (await cluster.client.get(RESOURCE_QUOTAS, "q", NS))["status"]["used"]["pods"] == "1"
        await used(cluster, {"pods": "0", "count/pods": "1"}, 15)

    play(scenario)


def test_what_quotas_do_not_count_is_left_out() -> None:
    async def scenario(cluster: Cluster) -> None:
        await limit(
            cluster, {"count/events": "0", "count/nothings.example.com": "1", "count/leases.coordination.k8s.io": "1"}
        )
        await used(cluster, {"count/leases.coordination.k8s.io": "0"})
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": NS}}
        await cluster.client.create(LEASES, lease)
        await used(cluster, {"count/leases.coordination.k8s.io": "1"})
        about = {"kind": "Pod", "namespace": NS, "name": "p"}
        event = {"kind": "Event", "metadata": {"name": "e", "namespace": NS}, "involvedObject": about}
        await cluster.client.create(Resource("", "v1", "events"), {"apiVersion": "v1", **event})

    play(scenario)


def test_a_settled_quota_is_not_written() -> None:
    async def scenario(cluster: Cluster) -> None:
        await limit(cluster, {"pods": "5", "requests.cpu": "1000m", "requests.memory": "1024Mi"})
        held = await used(cluster, {"pods": "0", "requests.cpu": "0", "requests.memory": "0"})
        await cluster.clock.sleep(3600)
        assert await cluster.client.get(RESOURCE_QUOTAS, "q", NS) == held
        patch = {"metadata": {"labels": {"a": "b"}}}
        changed = await cluster.client.patch(RESOURCE_QUOTAS, "q", patch, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(3600)
        assert await cluster.client.get(RESOURCE_QUOTAS, "q", NS) == changed

    play(scenario)
