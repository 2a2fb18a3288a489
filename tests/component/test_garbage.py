"""Garbage collection on the real API server, on virtual time: odd references, odd kinds, restarts, large numbers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.base.errors import ApiError
from tiphys.client.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster, background

NS = "default"
WIDGETS = Resource("example.com", "v1", "widgets")
REGIONS = Resource("example.com", "v1", "regions", namespaced=False)
KINDS = {"ConfigMap": (CONFIG_MAPS, "v1"), "Secret": (SECRETS, "v1"), "Widget": (WIDGETS, "example.com/v1")}
GARBAGE = "garbage-collector-controller"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0, **{"controllers": GARBAGE, **options}) as cluster:
            await clock.sleep(1)
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def reference(owner: Object, **fields: Any) -> dict[str, Any]:
    meta = owner["metadata"]
    ref = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    return {**ref, **fields}


async def make(
    cluster: Cluster, name: str, *references: dict[str, Any], kind: str = "ConfigMap", **meta: Any
) -> Object:
    resource, version = KINDS[kind]
    full = {"name": name, "namespace": NS, "ownerReferences": list(references), **meta}
    return await cluster.client.create(resource, {"apiVersion": version, "kind": kind, "metadata": full})


def definition(plural: str, kind: str, scope: str = "Namespaced") -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": "example.com", "names": names, "scope": scope, "versions": [version]}
    meta = {"name": f"{plural}.example.com"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta, "spec": spec,
    }  # fmt: skip


async def define(cluster: Cluster, plural: str, kind: str, scope: str = "Namespaced") -> None:
    await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(plural, kind, scope))
    await cluster.clock.sleep(3)


async def left(cluster: Cluster, resource: Resource = CONFIG_MAPS) -> set[str]:
    await cluster.clock.sleep(5)
    return {each["metadata"]["name"] for each in (await cluster.client.list(resource, NS)).items}


@pytest.mark.parametrize("wrong", [{"name": "another"}, {"kind": "Secret"}])
def test_a_uid_with_another_name_or_kind_is_no_owner(wrong: dict[str, str]) -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        await make(cluster, "right", reference(owner))
        await make(cluster, "wrong", reference(owner, **wrong))
        assert await left(cluster) == {"owner", "right"}

    play(scenario)


def test_another_version_of_a_kind_is_the_same_owner() -> None:
    scalers = Resource("autoscaling", "v2", "horizontalpodautoscalers")

    async def scenario(cluster: Cluster) -> None:
        spec = {"maxReplicas": 1, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}
        owner = await cluster.client.create(
            scalers,
            {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
             "metadata": {"name": "owner", "namespace": NS}, "spec": spec},
        )  # fmt: skip
        await make(cluster, "child", reference(owner, apiVersion="autoscaling/v1"))
        assert await left(cluster) == {"child"}
        await cluster.client.delete(scalers, "owner", NS)
        assert await left(cluster) == set()

    play(scenario)


def test_a_uid_that_another_object_of_that_name_has_now_is_no_owner() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        await make(cluster, "child", reference(owner, uid="8d3b4c8e-7d5c-4f4e-8d5e-0d6a3c2b1a00"))
        assert await left(cluster) == {"owner"}

    play(scenario)


def test_an_owner_in_another_namespace_is_told_and_none() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(NAMESPACES, {"kind": "Namespace", "metadata": {"name": "other"}})
        owner = await make(cluster, "owner", namespace="other")
        child = await make(cluster, "child", reference(owner))
        assert await left(cluster) == set()
        events = (await cluster.client.list(EVENTS, NS)).items
        uids = owner["metadata"]["uid"], child["metadata"]["uid"]
        assert [(each["reason"], each["type"], each["message"]) for each in events] == [
            ("OwnerRefInvalidNamespace", "Warning", f"ownerRef [v1/ConfigMap, namespace: default, name: owner, "
             f'uid: {uids[0]}] does not exist in namespace "default"'),
        ]  # fmt: skip
        about = {"kind": "ConfigMap", "namespace": NS, "name": "child", "uid": uids[1], "apiVersion": "v1"}
        assert events[0]["involvedObject"] == about
        assert events[0]["source"] == {"component": GARBAGE}

    play(scenario)


def test_what_has_no_namespace_cannot_have_an_owner_in_one() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        stray = reference(owner, name="gone", uid="8d3b4c8e-7d5c-4f4e-8d5e-0d6a3c2b1a00")
        for name, ref in (("one", reference(owner)), ("two", stray)):
            meta = {"name": name, "ownerReferences": [ref]}
            await cluster.client.create(NAMESPACES, {"kind": "Namespace", "metadata": meta})
        await cluster.clock.sleep(3600)
        for name in ("one", "two"):
            held = await cluster.client.get(NAMESPACES, name)
            assert "deletionTimestamp" not in held["metadata"]

    play(scenario)


def test_an_owner_without_a_namespace_owns_in_all_of_them() -> None:
    async def scenario(cluster: Cluster) -> None:
        await define(cluster, "regions", "Region", "Cluster")
        owner = await cluster.client.create(
            REGIONS, {"apiVersion": "example.com/v1", "kind": "Region", "metadata": {"name": "north"}}
        )
        await make(cluster, "child", reference(owner))
        assert await left(cluster) == {"child"}
        await cluster.client.delete(REGIONS, "north")
        assert await left(cluster) == set()

    play(scenario)


def test_custom_kinds_own_and_are_owned_and_take_theirs_with_them() -> None:
    async def scenario(cluster: Cluster) -> None:
        await define(cluster, "widgets", "Widget")
        one = await make(cluster, "one")
        two = await make(cluster, "two", reference(one), kind="Widget")
        await make(cluster, "three", reference(two))
        held = await make(cluster, "four", kind="Widget")
        await make(cluster, "five", reference(held))
        await cluster.client.delete(CONFIG_MAPS, "one", NS)
        assert await left(cluster) == {"five"}
        assert await left(cluster, WIDGETS) == {"four"}
        await cluster.client.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.com")
        assert await left(cluster) == set()

    play(scenario)


def test_a_custom_object_is_set_free_of_one_owner_and_of_all() -> None:
    async def scenario(cluster: Cluster) -> None:
        await define(cluster, "widgets", "Widget")
        one, two = await make(cluster, "one"), await make(cluster, "two")
        await make(cluster, "held", reference(one), reference(two), kind="Widget")
        await cluster.client.delete(CONFIG_MAPS, "one", NS)
        assert await left(cluster) == {"two"}
        held = await cluster.client.get(WIDGETS, "held", NS)
        assert [each["name"] for each in held["metadata"]["ownerReferences"]] == ["two"]
        await cluster.client.delete(CONFIG_MAPS, "two", NS, propagation="Orphan")
        assert await left(cluster) == set()
        assert "ownerReferences" not in (await cluster.client.get(WIDGETS, "held", NS))["metadata"]

    play(scenario)


def test_a_reference_to_an_unknown_kind_keeps_its_object_until_the_kind_is_known() -> None:
    async def scenario(cluster: Cluster) -> None:
        ref = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "11111111-2222-4333-8444-5555"}
        await make(cluster, "child", ref)
        assert await left(cluster) == {"child"}
        await define(cluster, "widgets", "Widget")
        await cluster.clock.sleep(1000)
        assert await left(cluster) == set()

    play(scenario)


def test_a_circle_in_the_foreground_ends() -> None:
    async def scenario(cluster: Cluster) -> None:
        one = await make(cluster, "one")
        two = await make(cluster, "two", reference(one, blockOwnerDeletion=True))
        await cluster.client.patch(
            CONFIG_MAPS, "one", {"metadata": {"ownerReferences": [reference(two, blockOwnerDeletion=True)]}}, NS,
            type=MERGE_PATCH,
        )  # fmt: skip
        await cluster.client.delete(CONFIG_MAPS, "one", NS, propagation="Foreground")
        assert await left(cluster) == set()

    play(scenario)


def test_what_does_not_block_does_not_hold_up_a_foreground_deletion() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        await make(cluster, "blocks", reference(owner, blockOwnerDeletion=True), finalizers=["example.com/wait"])
        await make(cluster, "free", reference(owner), finalizers=["example.com/wait"])
        await cluster.client.delete(CONFIG_MAPS, "owner", NS, propagation="Foreground")
        assert await left(cluster) == {"owner", "blocks", "free"}
        await cluster.client.patch(CONFIG_MAPS, "blocks", {"metadata": {"finalizers": None}}, NS, type=MERGE_PATCH)
        assert await left(cluster) == {"free"}

    play(scenario)


def test_a_finalizer_to_orphan_is_honoured_down_the_chain() -> None:
    async def scenario(cluster: Cluster) -> None:
        one = await make(cluster, "one")
        two = await make(cluster, "two", reference(one), finalizers=["orphan"])
        await make(cluster, "three", reference(two))
        await cluster.client.delete(CONFIG_MAPS, "one", NS)
        assert await left(cluster) == {"three"}
        assert "ownerReferences" not in (await cluster.client.get(CONFIG_MAPS, "three", NS))["metadata"]

    play(scenario)


def test_what_happened_while_no_collector_ran_is_made_up_for() -> None:
    async def scenario(cluster: Cluster) -> None:
        one = await make(cluster, "one")
        two = await make(cluster, "two", reference(one))
        await make(cluster, "three", reference(two, blockOwnerDeletion=True))
        owner = await make(cluster, "owner")
        await make(cluster, "free", reference(owner))
        await cluster.client.delete(CONFIG_MAPS, "one", NS)
        await cluster.client.delete(CONFIG_MAPS, "two", NS, propagation="Foreground")
        await cluster.client.delete(CONFIG_MAPS, "owner", NS, propagation="Orphan")
        assert len(await left(cluster)) == 4
        async with cluster.managing(GARBAGE):
            assert await left(cluster) == {"free"}

    play(scenario, controllers="")


def test_a_resource_that_cannot_be_listed_does_not_hold_up_the_rest() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        await make(cluster, "child", reference(owner))
        await cluster.client.delete(CONFIG_MAPS, "owner", NS)
        await cluster.clock.sleep(60)
        assert await left(cluster) == set()

    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            handler = cluster.server.handler

            async def without_leases(request: Any) -> Any:
                if "/leases" in request.path:
                    raise ApiError("no leases today")
                return await handler(request)

            cluster.server.handler = without_leases
            async with cluster.managing(GARBAGE):
                await scenario(cluster)

    clock.run(main())
    clock.close()


def test_what_changes_all_the_time_is_collected_all_the_same() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        await make(cluster, "busy", reference(owner))
        touched = 0

        async def touch() -> None:
            nonlocal touched
            while touched < 5000:
                patch = {"metadata": {"annotations": {"n": str(touched)}}}
                await cluster.client.patch(CONFIG_MAPS, "busy", patch, NS, type=MERGE_PATCH)
                touched += 1
                await cluster.clock.sleep(0.0001)

        async with background(lambda: _until_gone(touch)):
            await cluster.client.delete(CONFIG_MAPS, "owner", NS)
            assert await left(cluster) == set()
        assert touched < 5000

    play(scenario)


async def _until_gone(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except ApiError:
        return


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
def test_a_thousand_dependents(propagation: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = await make(cluster, "owner")
        for number in range(1000):
            await make(cluster, f"child-{number}", reference(owner, blockOwnerDeletion=True))
        await cluster.client.delete(CONFIG_MAPS, "owner", NS, propagation=propagation)
        rest = await left(cluster)
        assert len(rest) == (1000 if propagation == "Orphan" else 0)
        for each in (await cluster.client.list(CONFIG_MAPS, NS)).items:
            assert "ownerReferences" not in each["metadata"]

    play(scenario)


def test_a_settled_cluster_is_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.wait(SERVICE_ACCOUNTS, NS, "default")
        owner = await make(cluster, "owner")
        await make(cluster, "child", reference(owner))
        await cluster.clock.sleep(10)
        before = [(await cluster.client.list(each)).items for each in (CONFIG_MAPS, SERVICE_ACCOUNTS, EVENTS)]
        await cluster.clock.sleep(7200)
        assert before == [(await cluster.client.list(each)).items for each in (CONFIG_MAPS, SERVICE_ACCOUNTS, EVENTS)]

    play(scenario, controllers=f"{GARBAGE},serviceaccount-controller")
