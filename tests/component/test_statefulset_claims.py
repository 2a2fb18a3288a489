"""Claims of StatefulSets and their retention, and the API objects' life, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.client.resources import EVENTS, PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, STATEFUL_SETS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
LABELS = {"app": "db"}
CONTROLLERS = "namespace,serviceaccount,statefulset,pvc-protection,garbagecollector"


def stateful_set(name: str = "db", replicas: int = 3, **spec: Any) -> dict[str, Any]:
    request = {"requests": {"storage": "1Gi"}}
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": request}}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "db:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": NS, "labels": {"suite": "e2e"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "serviceName": "peers",
            "template": template,
            "volumeClaimTemplates": [claim],
            **spec,
        },
    }


def retention(deleted: str, scaled: str) -> dict[str, Any]:
    return {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], more: str = "") -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=2, controllers=CONTROLLERS + more) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def available(count: int) -> Callable[[Object], bool]:
    def check(obj: Object) -> bool:
        status = obj.get("status") or {}
        seen = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        return seen and status.get("replicas") == status.get("availableReplicas") == count

    return check


async def wait(cluster: Cluster, count: int) -> Object:
    return await cluster.wait(STATEFUL_SETS, NS, "db", available(count))


async def scale(cluster: Cluster, replicas: int) -> None:
    await cluster.client.patch(STATEFUL_SETS, "db", {"spec": {"replicas": replicas}}, NS, type=MERGE_PATCH)


async def claims(cluster: Cluster) -> list[str]:
    await cluster.clock.sleep(60)
    listing = await cluster.client.list(PERSISTENT_VOLUME_CLAIMS, NS)
    return sorted(each["metadata"]["name"] for each in listing.items)


@pytest.mark.parametrize("scaled", ["Retain", "Delete"])
def test_scaling_down_keeps_or_deletes_claims(scaled: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(**retention("Retain", scaled)))
        await wait(cluster, 3)
        await scale(cluster, 1)
        await wait(cluster, 1)
        all_three = ["data-db-0", "data-db-1", "data-db-2"]
        assert await claims(cluster) == (all_three[:1] if scaled == "Delete" else all_three)
        await scale(cluster, 3)
        await wait(cluster, 3)
        assert await claims(cluster) == all_three

    play(scenario)


@pytest.mark.parametrize("deleted", ["Retain", "Delete"])
def test_deleting_the_set_keeps_or_deletes_claims(deleted: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(**retention(deleted, "Retain")))
        await wait(cluster, 3)
        await cluster.client.delete(STATEFUL_SETS, "db", NS)
        await cluster.wait_gone(STATEFUL_SETS, NS, "db")
        assert len(await claims(cluster)) == (0 if deleted == "Delete" else 3)

    play(scenario)


def test_a_change_of_policy_is_carried_to_the_claims() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set())
        await wait(cluster, 3)
        for policy, owners in ((retention("Delete", "Delete"), ["StatefulSet"]), (retention("Retain", "Retain"), [])):
            await cluster.client.patch(STATEFUL_SETS, "db", {"spec": policy}, NS, type=MERGE_PATCH)
            await cluster.clock.sleep(10)
            for held in (await cluster.client.list(PERSISTENT_VOLUME_CLAIMS, NS)).items:
                assert [each["kind"] for each in held["metadata"].get("ownerReferences", [])] == owners

    play(scenario)


def test_a_claim_that_another_controller_manages_is_left_alone_and_told_of() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(**retention("Retain", "Delete")))
        await wait(cluster, 3)
        keeper = await cluster.client.get(STATEFUL_SETS, "db", NS)
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "db-0", "controller": True}
        pod = await cluster.client.get(PODS, "db-0", NS)
        references = [{**owner, "uid": pod["metadata"]["uid"]}]
        patch = {"metadata": {"ownerReferences": references}}
        await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, "data-db-2", patch, NS, type=MERGE_PATCH)
        await scale(cluster, 1)
        await wait(cluster, 1)
        assert await claims(cluster) == ["data-db-0", "data-db-2"]
        await scale(cluster, 3)
        await wait(cluster, 3)
        await cluster.clock.sleep(1)
        told = [
            each for each in (await cluster.client.list(EVENTS, NS)).items if each["reason"] == "ConflictingController"
        ]
        assert told[0]["involvedObject"]["uid"] == keeper["metadata"]["uid"]
        assert "data-db-2 has a conflicting OwnerReference" in told[0]["message"]

    play(scenario)


def test_a_pod_waits_until_its_claim_that_is_being_deleted_is_gone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await wait(cluster, 1)
        hold = {"metadata": {"finalizers": ["example.com/hold"]}}
        await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, "data-db-0", hold, NS, type=MERGE_PATCH)
        old = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-0", NS)
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data-db-0", NS)
        await cluster.client.delete(PODS, "db-0", NS)
        await cluster.clock.sleep(60)
        assert not await cluster.exists(PODS, NS, "db-0")
        told = {each["message"] for each in (await cluster.client.list(EVENTS, NS)).items}
        assert "Create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted" in told
        free = {"metadata": {"finalizers": None}}
        await cluster.client.patch(PERSISTENT_VOLUME_CLAIMS, "data-db-0", free, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "db-0", timeout=5)
        new = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-0", NS)
        assert new["metadata"]["uid"] != old["metadata"]["uid"]

    play(scenario)


def test_every_claim_that_is_refused_is_told_of() -> None:
    async def scenario(cluster: Cluster) -> None:
        hard = {"persistentvolumeclaims": "0"}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}
        await cluster.client.create(RESOURCE_QUOTAS, quota, NS)
        await cluster.wait(RESOURCE_QUOTAS, NS, "q", lambda obj: bool((obj.get("status") or {}).get("hard")))
        wanted = stateful_set(replicas=1)
        data = wanted["spec"]["volumeClaimTemplates"][0]
        wanted["spec"]["volumeClaimTemplates"] = [data, {**data, "metadata": {"name": "logs"}}]
        await cluster.client.create(STATEFUL_SETS, wanted)
        await cluster.clock.sleep(5)
        told = {each["message"] for each in (await cluster.client.list(EVENTS, NS)).items}
        refusals = {}
        for name in ("data-db-0", "logs-db-0"):
            text = f'persistentvolumeclaims "{name}" is forbidden: exceeded quota: q, requested: '
            refusals[name] = (
                text
                + "persistentvolumeclaims=1, used: persistentvolumeclaims=0, limited: "
                + ("persistentvolumeclaims=0")
            )
            assert f"Create Claim {name} for Pod db-0 in StatefulSet db failed error: {refusals[name]}" in told
        both = ", ".join(f"failed to create PVC {name}: {text}" for name, text in refusals.items())
        assert f"Create Pod db-0 in StatefulSet db failed error: [{both}]" in told
        assert not (await cluster.client.list(PODS, NS)).items

    play(scenario, ",resourcequota")


def test_the_scale_subresource_sets_the_size() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await wait(cluster, 1)
        held = await cluster.client.get(STATEFUL_SETS, "db", NS, subresource="scale")
        assert (held["spec"]["replicas"], held["status"]["selector"]) == (1, "app=db")
        await cluster.client.update(STATEFUL_SETS, {**held, "spec": {"replicas": 2}}, subresource="scale")
        await wait(cluster, 2)
        patch = {"spec": {"replicas": 4}}
        await cluster.client.patch(STATEFUL_SETS, "db", patch, NS, type=MERGE_PATCH, subresource="scale")
        await wait(cluster, 4)

    play(scenario)


def test_sets_are_listed_patched_and_deleted_as_a_collection() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await wait(cluster, 1)
        assert len((await cluster.client.list(STATEFUL_SETS, labels="suite=e2e")).items) == 1
        containers = [{"name": "c", "image": "db:2"}]
        patch = {
            "metadata": {"labels": {"patched": "true"}},
            "spec": {
                "replicas": 2,
                "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": containers}},
            },
        }
        patched = await cluster.client.patch(STATEFUL_SETS, "db", patch, NS)
        assert patched["metadata"]["labels"]["patched"] == "true"
        await wait(cluster, 2)
        path = STATEFUL_SETS.path(NS)
        await cluster.client.call("DELETE", path, labelSelector="patched=true")
        await cluster.wait_gone(STATEFUL_SETS, NS, "db")
        await cluster.wait_gone(PODS, NS, "db-0")

    play(scenario)


def test_conditions_that_others_write_into_the_status_stay_while_nothing_changes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        done = await wait(cluster, 1)
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        status = {**done["status"], "conditions": [condition]}
        await cluster.client.update(STATEFUL_SETS, {**done, "status": status}, subresource="status")
        await cluster.clock.sleep(60)
        found = await cluster.client.get(STATEFUL_SETS, "db", NS, subresource="status")
        assert found["status"]["conditions"][0]["type"] == "StatusUpdate"
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        await cluster.client.patch(STATEFUL_SETS, "db", patch, NS, type=MERGE_PATCH, subresource="status")
        await cluster.clock.sleep(60)
        found = await cluster.client.get(STATEFUL_SETS, "db", NS)
        assert found["status"]["conditions"] == [{"type": "StatusPatched", "status": "True", **_nulls(found)}]

    play(scenario)


def _nulls(found: Object) -> dict[str, Any]:
    """Fields that the server fills in."""
    return {key: value for key, value in found["status"]["conditions"][0].items() if value is None}
