"""Controllers that handle every resource alike learn of custom ones while they run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from custom_world import GROUP, NAME, SCHEMA, crontab, definition, version
from tiphys.base.errors import ApiError, Forbidden, NotFound
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, RESOURCE_QUOTAS, SERVICE_ACCOUNTS
from tiphys.client.types import Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CRONTABS = Resource(GROUP, "v1", "crontabs", True)
NS = "default"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock) as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, NS, "default", timeout=10)
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def established(crd: Any) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any((one["type"], one["status"]) == ("Established", "True") for one in conditions)


async def define(cluster: Cluster) -> None:
    await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(version(schema=SCHEMA)))
    await cluster.wait(CUSTOM_RESOURCE_DEFINITIONS, "", NAME, established, timeout=10)


async def create(cluster: Cluster, name: str, namespace: str = NS, owner: Any = None) -> Any:
    obj = crontab(name)
    if owner is not None:
        meta = owner["metadata"]
        reference = {"apiVersion": f"{GROUP}/v1", "kind": "CronTab", "name": meta["name"], "uid": meta["uid"]}
        obj["metadata"]["ownerReferences"] = [{**reference, "blockOwnerDeletion": True}]
    return await cluster.client.create(CRONTABS, obj, namespace)


async def gone(cluster: Cluster, resource: Resource, namespace: str, name: str) -> None:
    """Wait until an object is away."""
    for _ in range(100):
        try:
            await cluster.client.get(resource, name, namespace)
        except NotFound:
            return
        await cluster.clock.sleep(1)
    raise AssertionError(f"{resource.plural} {name} is still there")


def test_custom_objects_go_with_their_namespace() -> None:
    async def scenario(cluster: Cluster) -> None:
        await define(cluster)
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "other"}})
        await create(cluster, "a", "other")
        await cluster.client.delete(NAMESPACES, "other")
        await gone(cluster, CRONTABS, "other", "a")
        await gone(cluster, NAMESPACES, "", "other")

    play(scenario)


def test_dependents_are_collected() -> None:
    async def scenario(cluster: Cluster) -> None:
        await define(cluster)
        owner = await create(cluster, "owner")
        await create(cluster, "dependent", owner=owner)
        await cluster.clock.sleep(5)
        await cluster.client.delete(CRONTABS, "owner", NS)
        await gone(cluster, CRONTABS, NS, "dependent")

    play(scenario)


def test_foreground_deletion_waits_for_dependents() -> None:
    async def scenario(cluster: Cluster) -> None:
        await define(cluster)
        owner = await create(cluster, "owner")
        await create(cluster, "dependent", owner=owner)
        await cluster.clock.sleep(5)
        await cluster.client.delete(CRONTABS, "owner", NS, propagation="Foreground")
        await gone(cluster, CRONTABS, NS, "owner")
        await gone(cluster, CRONTABS, NS, "dependent")

    play(scenario)


def test_a_definition_that_was_made_again_is_collected_too() -> None:
    async def scenario(cluster: Cluster) -> None:
        for _ in range(2):
            await define(cluster)
            owner = await create(cluster, "owner")
            await create(cluster, "dependent", owner=owner)
            await cluster.clock.sleep(5)
            await cluster.client.delete(CRONTABS, "owner", NS)
            await gone(cluster, CRONTABS, NS, "dependent")
            await cluster.client.delete(CUSTOM_RESOURCE_DEFINITIONS, NAME)
            await gone(cluster, CUSTOM_RESOURCE_DEFINITIONS, "", NAME)
            await cluster.clock.sleep(5)

    play(scenario)


def test_quotas_count_custom_objects() -> None:
    async def scenario(cluster: Cluster) -> None:
        count = f"count/crontabs.{GROUP}"
        quota = {"metadata": {"name": "q"}, "spec": {"hard": {count: "1"}}}
        await cluster.client.create(RESOURCE_QUOTAS, quota, NS)
        await define(cluster)

        def used(amount: str) -> Callable[[Any], bool]:
            return lambda found: (found.get("status") or {}).get("used", {}).get(count) == amount

        await cluster.wait(RESOURCE_QUOTAS, NS, "q", used("0"), timeout=60)
        await create(cluster, "a")
        await cluster.wait(RESOURCE_QUOTAS, NS, "q", used("1"), timeout=60)
        with pytest.raises(Forbidden) as refused:
            await create(cluster, "b")
        assert f"exceeded quota: q, requested: {count}=1, used: {count}=1, limited: {count}=1" in refused.value.message
        await cluster.client.delete(CRONTABS, "a", NS)
        await cluster.wait(RESOURCE_QUOTAS, NS, "q", used("0"), timeout=60)
        with pytest.raises(ApiError):
            await create(cluster, "b", "missing")

    play(scenario)
