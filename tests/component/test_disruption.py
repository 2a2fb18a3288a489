"""PodDisruptionBudgets and evictions on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.base.errors import TooManyRequests
from tiphys.client.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
)
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
LABELS = {"app": "web"}
CONTROLLERS = "namespace,serviceaccount,disruption,replicaset,deployment"
POD_SPEC = {"containers": [{"name": "c", "image": "web:1"}]}


def budget(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"selector": {"matchLabels": LABELS}, **spec},
    }


def workload(kind: str, replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": POD_SPEC}
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": NS}, "spec": spec}


def lone_pod(name: str, **meta: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": NS, "labels": LABELS, **meta}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": POD_SPEC}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=2, controllers=CONTROLLERS) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def numbers(obj: Object) -> tuple[int, ...]:
    names = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
    return tuple((obj.get("status") or {}).get(name, 0) for name in names)


async def settled(cluster: Cluster, wanted: tuple[int, ...], name: str = "web") -> Object:
    def check(obj: Object) -> bool:
        seen = (obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"]
        return seen and numbers(obj) == wanted

    return await cluster.wait(POD_DISRUPTION_BUDGETS, NS, name, check)


async def evict(cluster: Cluster, name: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NS}}
    await cluster.client.create(PODS, eviction, NS, name=name, subresource="eviction")


async def pod_names(cluster: Cluster) -> list[str]:
    listing = await cluster.client.list(PODS, NS, labels="app=web")
    return [pod["metadata"]["name"] for pod in listing.items if not pod["metadata"].get("deletionTimestamp")]


async def told(cluster: Cluster, kind: str) -> dict[str, str]:
    found = (await cluster.client.list(EVENTS, NS)).items
    return {each["reason"]: each["message"] for each in found if each["involvedObject"]["kind"] == kind}


def test_the_status_says_how_many_disruptions_are_allowed() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=1))
        made = await settled(cluster, (0, 1, 0, 0))
        assert made["status"]["conditions"][0]["reason"] == "InsufficientPods"
        for number in range(3):
            await cluster.client.create(PODS, lone_pod(f"web-{number}"))
        ready = await settled(cluster, (3, 1, 3, 2))
        assert ready["status"]["conditions"][0]["reason"] == "SufficientPods"
        assert "NoPods" in await told(cluster, "PodDisruptionBudget")

    play(scenario)


def test_an_eviction_is_blocked_until_the_budget_allows_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=3))
        await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", 3))
        await settled(cluster, (3, 3, 3, 0))
        victim = (await pod_names(cluster))[0]
        with pytest.raises(TooManyRequests) as refused:
            await evict(cluster, victim)
        assert refused.value.details["causes"][0]["reason"] == "DisruptionBudget"
        await cluster.client.patch(POD_DISRUPTION_BUDGETS, "web", {"spec": {"minAvailable": 2}}, NS, type=MERGE_PATCH)
        await settled(cluster, (3, 2, 3, 1))
        await evict(cluster, victim)
        await cluster.clock.sleep(60)
        assert victim not in await pod_names(cluster)
        shut = {"spec": {"minAvailable": None, "maxUnavailable": 0}}
        await cluster.client.patch(POD_DISRUPTION_BUDGETS, "web", shut, NS, type=MERGE_PATCH)
        await settled(cluster, (3, 3, 3, 0))
        victim = (await pod_names(cluster))[0]
        with pytest.raises(TooManyRequests):
            await evict(cluster, victim)
        await cluster.client.delete(POD_DISRUPTION_BUDGETS, "web", NS)
        await evict(cluster, victim)

    play(scenario)


def test_evictions_in_a_row_never_go_below_the_budget() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", 5))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=2))
        await settled(cluster, (5, 3, 5, 2))
        granted = 0
        for name in await pod_names(cluster):
            try:
                await evict(cluster, name)
                granted += 1
            except TooManyRequests:
                continue
        assert granted == 2
        await settled(cluster, (5, 3, 5, 2))

    play(scenario)


@pytest.mark.parametrize(
    ("kind", "spec", "wanted"),
    [
        ("ReplicaSet", {"minAvailable": "90%"}, (10, 9, 10, 1)),
        ("ReplicaSet", {"maxUnavailable": "10%"}, (10, 9, 10, 1)),
        ("Deployment", {"maxUnavailable": 3}, (10, 7, 10, 3)),
    ],
)
def test_shares_are_of_what_the_controllers_want(kind: str, spec: dict[str, Any], wanted: tuple[int, ...]) -> None:
    async def scenario(cluster: Cluster) -> None:
        resource = DEPLOYMENTS if kind == "Deployment" else REPLICA_SETS
        await cluster.client.create(resource, workload(kind, 10))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(**spec))
        await settled(cluster, wanted)

    play(scenario)


def test_pods_of_several_controllers_count_together() -> None:
    async def scenario(cluster: Cluster) -> None:
        for name, replicas in (("web", 3), ("other", 2)):
            made = workload("ReplicaSet", replicas)
            labels = {**LABELS, "part": name}
            made["metadata"]["name"] = name
            made["spec"]["selector"] = {"matchLabels": labels}
            made["spec"]["template"]["metadata"] = {"labels": labels}
            await cluster.client.create(REPLICA_SETS, made)
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable="40%"))
        await settled(cluster, (5, 3, 5, 2))

    play(scenario)


@pytest.mark.parametrize(("selector", "expected"), [({}, (2, 1, 2, 1)), (None, (0, 1, 0, 0))])
def test_an_empty_selector_selects_all_and_none_selects_nothing(
    selector: dict[str, Any] | None, expected: tuple[int, ...]
) -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in ("one", "two"):
            await cluster.client.create(PODS, lone_pod(name, labels={"odd": name}))
        wanted = budget(minAvailable=1)
        wanted["spec"]["selector"] = selector
        await cluster.client.create(POD_DISRUPTION_BUDGETS, wanted)
        await settled(cluster, expected)

    play(scenario)


def test_a_changed_budget_is_observed_with_its_generation_and_a_changed_condition() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, lone_pod("one"))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=1))
        before = (await settled(cluster, (1, 1, 1, 0)))["status"]
        await cluster.clock.sleep(5)
        await cluster.client.patch(POD_DISRUPTION_BUDGETS, "web", {"spec": {"minAvailable": 0}}, NS, type=MERGE_PATCH)
        after = (await settled(cluster, (1, 0, 1, 1)))["status"]
        was, now = before["conditions"][0], after["conditions"][0]
        assert (was["status"], was["reason"], was["observedGeneration"]) == ("False", "InsufficientPods", 1)
        assert (now["status"], now["reason"], now["observedGeneration"]) == ("True", "SufficientPods", 2)
        assert (before["observedGeneration"], after["observedGeneration"]) == (1, 2)
        assert was["lastTransitionTime"] < now["lastTransitionTime"]

    play(scenario)


def test_an_owner_that_is_another_than_it_was_fails_the_sync_and_says_so_to_who_evicts() -> None:
    async def scenario(cluster: Cluster) -> None:
        made = await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", 0))
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "gone", "controller": True}
        assert made["metadata"]["uid"] != "gone"
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
        await settled(cluster, (0, 0, 0, 0))
        await cluster.client.create(PODS, lone_pod("one", ownerReferences=[owner]))
        await cluster.clock.sleep(2)
        why = 'found no controllers for pod "one"'
        with pytest.raises(TooManyRequests) as refused:
            await evict(cluster, "one")
        currently = "does not allow evicting pods currently because it failed sync"
        cause = refused.value.details["causes"][0]["message"]
        assert cause == f"The disruption budget web {currently}: {why}"
        told_of = (await told(cluster, "PodDisruptionBudget"))["CalculateExpectedPodCountFailed"]
        assert told_of == f"Failed to calculate the number of expected pods: {why}"

    play(scenario)


def test_pods_without_a_controller_are_told_of() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
        await cluster.client.create(PODS, lone_pod("lone"))
        await settled(cluster, (0, 0, 1, 0))
        await cluster.clock.sleep(1)
        message = (await told(cluster, "PodDisruptionBudget"))["UnmanagedPods"]
        assert "(selector: &LabelSelector{MatchLabels:map[string]string{app: web,}," in message

    play(scenario)


def test_an_unknown_controller_allows_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        owner = {"apiVersion": "example.com/v1", "kind": "Gadget", "name": "g", "uid": "u", "controller": True}
        await cluster.client.create(PODS, lone_pod("odd", ownerReferences=[owner]))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))

        def failed(obj: Object) -> bool:
            conditions = (obj.get("status") or {}).get("conditions") or [{}]
            return bool(conditions[0].get("reason") == "SyncFailed")

        made = await cluster.wait(POD_DISRUPTION_BUDGETS, NS, "web", failed)
        text = 'no matches for kind "Gadget" in version "example.com/v1"'
        assert made["status"]["conditions"][0]["message"] == text

    play(scenario)


def test_custom_kinds_count_by_their_scale() -> None:
    async def scenario(cluster: Cluster) -> None:
        gadgets = Resource("example.com", "v1", "gadgets")
        await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, gadget_definition())
        await cluster.clock.sleep(5)
        gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g", "namespace": NS}}
        made = await cluster.client.create(gadgets, {**gadget, "spec": {"replicas": 4}})
        owner = {"apiVersion": "example.com/v1", "kind": "Gadget", "name": "g", "controller": True}
        references = [{**owner, "uid": made["metadata"]["uid"]}]
        for number in range(4):
            await cluster.client.create(PODS, lone_pod(f"g-{number}", ownerReferences=references))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable="25%"))
        await settled(cluster, (4, 3, 4, 1))

    play(scenario)


def gadget_definition() -> dict[str, Any]:
    replicas = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": replicas, "status": replicas}}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"scale": scale, "status": {}},
    }
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def test_an_eviction_that_came_to_nothing_is_forgotten() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, lone_pod("web-0"))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=0))
        made = await settled(cluster, (1, 0, 1, 1))
        noted = {**made["status"], "disruptedPods": {"web-0": rfc3339(cluster.clock.time())}}
        await cluster.client.update(POD_DISRUPTION_BUDGETS, {**made, "status": noted}, subresource="status")
        waiting = await settled(cluster, (1, 0, 0, 0))
        assert "web-0" in waiting["status"]["disruptedPods"]
        freed = await cluster.wait(
            POD_DISRUPTION_BUDGETS, NS, "web", lambda obj: "disruptedPods" not in obj["status"], timeout=130
        )
        assert numbers(freed) == (1, 0, 1, 1)
        await cluster.clock.sleep(1)
        assert "NotDeleted" in await told(cluster, "Pod")

    play(scenario)


def test_a_disruption_target_that_lives_on_is_cleared_after_two_minutes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, lone_pod("web-0"))
        await cluster.clock.sleep(1)
        pod = await cluster.client.get(PODS, "web-0", NS)
        since = rfc3339(cluster.clock.time())
        target = {"type": "DisruptionTarget", "status": "True", "reason": "Test", "lastTransitionTime": since}
        conditions = [*pod["status"]["conditions"], target]
        await cluster.client.update(
            PODS, {**pod, "status": {**pod["status"], "conditions": conditions}}, subresource="status"
        )
        start = cluster.clock.monotonic()

        def cleared(obj: Object) -> bool:
            return any(
                each["type"] == "DisruptionTarget" and each["status"] == "False" for each in obj["status"]["conditions"]
            )

        await cluster.wait(PODS, NS, "web-0", cleared)
        assert 118 <= cluster.clock.monotonic() - start <= 125

    play(scenario)


def test_a_pod_of_two_budgets_is_told_of() -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in ("one", "two"):
            await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(name, minAvailable=0))
        await cluster.clock.sleep(1)
        await cluster.client.create(PODS, lone_pod("web-0"))
        await settled(cluster, (1, 0, 1, 1), "one")
        await settled(cluster, (1, 0, 1, 1), "two")
        assert "MultiplePodDisruptionBudgets" in await told(cluster, "Pod")

    play(scenario)


def test_unready_pods_may_go_where_the_policy_says_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.ready = False
        await cluster.client.create(PODS, lone_pod("web-0"))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=1))
        await settled(cluster, (1, 1, 0, 0))
        with pytest.raises(TooManyRequests):
            await evict(cluster, "web-0")
        always = {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}
        await cluster.client.patch(POD_DISRUPTION_BUDGETS, "web", always, NS, type=MERGE_PATCH)
        await settled(cluster, (1, 1, 0, 0))
        await evict(cluster, "web-0")

    play(scenario)


def test_budgets_are_updated_patched_listed_and_deleted_as_a_collection() -> None:
    async def scenario(cluster: Cluster) -> None:
        client = cluster.client
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
        for namespace, name in ((NS, "one"), (NS, "two"), ("other", "three")):
            wanted = budget(name, minAvailable="1%")
            wanted["metadata"] |= {"namespace": namespace, "labels": {"suite": "e2e"}}
            await client.create(POD_DISRUPTION_BUDGETS, wanted)
        assert len((await client.list(POD_DISRUPTION_BUDGETS, labels="suite=e2e")).items) == 3
        await cluster.clock.sleep(1)
        held = await client.get(POD_DISRUPTION_BUDGETS, "one", NS)
        spec = {**held["spec"], "minAvailable": "2%"}
        updated = await client.update(POD_DISRUPTION_BUDGETS, {**held, "spec": spec})
        patch = {"spec": {"minAvailable": "3%"}}
        patched = await client.patch(POD_DISRUPTION_BUDGETS, "one", patch, NS, type=MERGE_PATCH)
        assert (updated["spec"]["minAvailable"], patched["spec"]["minAvailable"]) == ("2%", "3%")
        await settled(cluster, (0, 0, 0, 0), "one")
        await client.call("DELETE", POD_DISRUPTION_BUDGETS.path(NS), labelSelector="suite=e2e")
        left = (await client.list(POD_DISRUPTION_BUDGETS)).items
        assert [each["metadata"]["name"] for each in left] == ["three"]

    play(scenario)


def test_disrupted_pods_that_others_write_and_remove_are_taken_over() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, lone_pod("web-0"))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=1))
        made = await settled(cluster, (1, 1, 1, 0))
        noted = {"disruptedPods": {"web-0": rfc3339(cluster.clock.time())}}
        status = {**made["status"], **noted}
        await cluster.client.update(POD_DISRUPTION_BUDGETS, {**made, "status": status}, subresource="status")
        await cluster.clock.sleep(5)
        held = await cluster.client.get(POD_DISRUPTION_BUDGETS, "web", NS, subresource="status")
        assert "web-0" in held["status"]["disruptedPods"]
        patch = {"status": {"disruptedPods": {"web-0": None}}}
        patched = await cluster.client.patch(
            POD_DISRUPTION_BUDGETS, "web", patch, NS, type=MERGE_PATCH, subresource="status"
        )
        assert not patched["status"].get("disruptedPods")
        await settled(cluster, (1, 1, 1, 0))

    play(scenario)


def test_nothing_is_written_when_nothing_changes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", 3))
        await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
        before = await settled(cluster, (3, 2, 3, 1))
        name = (await pod_names(cluster))[0]
        await cluster.client.patch(PODS, name, {"metadata": {"labels": {"b": "c"}}}, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(600)
        assert await cluster.client.get(POD_DISRUPTION_BUDGETS, "web", NS) == before

    play(scenario)
