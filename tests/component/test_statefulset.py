"""StatefulSets on the real API server, on virtual time: order, identity, updates, storage, history."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.client.resources import CONTROLLER_REVISIONS, EVENTS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
LABELS = {"app": "db"}
CONTROLLERS = "namespace,serviceaccount,statefulset,pvc-protection,garbagecollector"


def template(image: str = "db:1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def stateful_set(replicas: int = 3, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": NS},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "serviceName": "peers",
            "template": template(),
            **spec,
        },
    }


def claim(name: str = "data") -> dict[str, Any]:
    request = {"requests": {"storage": "1Gi"}}
    return {"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": request}}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=2, controllers=CONTROLLERS) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def status(obj: Object, field: str) -> Any:
    return (obj.get("status") or {}).get(field, 0)


def available(count: int) -> Callable[[Object], bool]:
    def check(obj: Object) -> bool:
        seen = status(obj, "observedGeneration") >= obj["metadata"]["generation"]
        return bool(seen and all(status(obj, field) == count for field in ("replicas", "availableReplicas")))

    return check


def updated(obj: Object) -> bool:
    """The update is over and all pods are available."""
    wanted = obj["spec"]["replicas"]
    same = status(obj, "currentRevision") == status(obj, "updateRevision")
    return available(wanted)(obj) and same and status(obj, "updatedReplicas") == wanted


async def wait(cluster: Cluster, condition: Callable[[Object], bool]) -> Object:
    return await cluster.wait(STATEFUL_SETS, NS, "db", condition)


async def patch(cluster: Cluster, **spec: Any) -> Object:
    return await cluster.client.patch(STATEFUL_SETS, "db", {"spec": spec}, NS, type=MERGE_PATCH)


async def pods_of(cluster: Cluster) -> dict[str, Object]:
    listing = await cluster.client.list(PODS, NS, labels="app=db")
    return {pod["metadata"]["name"]: pod for pod in listing.items}


async def images(cluster: Cluster) -> list[str]:
    pods = await pods_of(cluster)
    return [pods[name]["spec"]["containers"][0]["image"] for name in sorted(pods)]


async def set_ready(cluster: Cluster, ready: bool) -> None:
    """Break or restore the readiness of all pods, those to come included."""
    cluster.nodes.ready = ready
    for name in await pods_of(cluster):
        pod = await cluster.client.get(PODS, name, NS)
        conditions = [
            {**each, "status": str(ready)} if "Ready" in each["type"] else each
            for each in pod["status"].get("conditions") or ()
        ]
        changed = {**pod, "status": {**pod["status"], "conditions": conditions}}
        await cluster.client.update(PODS, changed, subresource="status")


async def events(cluster: Cluster) -> list[tuple[str, str]]:
    found = (await cluster.client.list(EVENTS, NS)).items
    return [(each["reason"], each["message"]) for each in found if each["involvedObject"]["kind"] == "StatefulSet"]


async def until(cluster: Cluster, condition: Callable[[dict[str, Object]], bool]) -> dict[str, Object]:
    for _ in range(100):
        pods = await pods_of(cluster)
        if condition(pods):
            return pods
        await cluster.clock.sleep(1)
    raise TimeoutError(f"pods are still {list(pods)}")


async def journal(cluster: Cluster, type: str, since: str) -> list[str]:
    """The names of pods that were added or deleted since a revision."""
    watch = cluster.client.watch(PODS, NS, labels="app=db", resource_version=since, timeout=1)
    return [event.object["metadata"]["name"] async for event in watch if event.type == type]


def test_pods_have_names_labels_and_claims_of_their_own() -> None:
    async def scenario(cluster: Cluster) -> None:
        wanted = stateful_set(volumeClaimTemplates=[claim()])
        await cluster.client.create(STATEFUL_SETS, wanted)
        done = await wait(cluster, available(3))
        pods = await pods_of(cluster)
        assert sorted(pods) == ["db-0", "db-1", "db-2"]
        pod = pods["db-1"]
        assert pod["metadata"]["labels"] == {
            **LABELS,
            "statefulset.kubernetes.io/pod-name": "db-1",
            "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": status(done, "updateRevision"),
        }
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-1", "peers")
        assert pod["spec"]["volumes"][0] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}
        held = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-1", NS)
        assert held["metadata"]["labels"] == LABELS
        assert "ownerReferences" not in held["metadata"]
        await cluster.clock.sleep(1)
        told = await events(cluster)
        assert ("SuccessfulCreate", "Create Pod db-0 in StatefulSet db successful") in told
        assert ("SuccessfulCreate", "Create Claim data-db-0 Pod db-0 in StatefulSet db success") in told

    play(scenario)


def test_scaling_is_in_order_and_halts_while_a_pod_is_unhealthy() -> None:
    async def scenario(cluster: Cluster) -> None:
        start = (await cluster.client.list(PODS, NS)).resource_version
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await wait(cluster, available(1))
        await set_ready(cluster, False)
        await wait(cluster, lambda obj: status(obj, "readyReplicas") == 0)
        await patch(cluster, replicas=3)
        await cluster.clock.sleep(30)
        assert list(await pods_of(cluster)) == ["db-0"]
        await set_ready(cluster, True)
        await wait(cluster, available(3))
        assert await journal(cluster, "ADDED", start) == ["db-0", "db-1", "db-2"]
        await set_ready(cluster, False)
        await wait(cluster, lambda obj: status(obj, "readyReplicas") == 0)
        await patch(cluster, replicas=0)
        await cluster.clock.sleep(30)
        assert len(await pods_of(cluster)) == 3
        await set_ready(cluster, True)
        await wait(cluster, available(0))
        assert await journal(cluster, "DELETED", start) == ["db-2", "db-1", "db-0"]

    play(scenario)


def test_parallel_sets_scale_with_unhealthy_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.ready = False
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1, podManagementPolicy="Parallel"))
        await wait(cluster, lambda obj: status(obj, "replicas") == 1)
        await patch(cluster, replicas=3)
        await wait(cluster, lambda obj: status(obj, "replicas") == 3)
        await patch(cluster, replicas=0)
        await wait(cluster, lambda obj: status(obj, "replicas") == 0)
        assert not await pods_of(cluster)

    play(scenario)


def test_an_update_replaces_one_pod_at_a_time_and_can_be_rolled_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set())
        first = status(await wait(cluster, updated), "updateRevision")
        start = (await cluster.client.list(PODS, NS)).resource_version
        least: list[int] = []

        def watching(obj: Object) -> bool:
            least.append(status(obj, "availableReplicas"))
            return updated(obj)

        await patch(cluster, template=template("db:2"))
        second = status(await wait(cluster, watching), "currentRevision")
        assert first != second
        assert min(least) >= 2
        assert await journal(cluster, "DELETED", start) == ["db-2", "db-1", "db-0"]
        assert await images(cluster) == ["db:2"] * 3
        await patch(cluster, template=template("db:1"))
        back = await wait(cluster, updated)
        assert status(back, "currentRevision") == first
        revisions = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        assert {each["metadata"]["name"]: each["revision"] for each in revisions} == {first: 3, second: 2}

    play(scenario)


def test_a_partition_holds_back_the_lower_ordinals() -> None:
    async def scenario(cluster: Cluster) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
        await cluster.client.create(STATEFUL_SETS, stateful_set(updateStrategy=strategy))
        await wait(cluster, available(3))
        await patch(cluster, template=template("db:2"))
        await cluster.clock.sleep(30)
        assert await images(cluster) == ["db:1"] * 3
        await patch(cluster, updateStrategy={"rollingUpdate": {"partition": 2}})
        await wait(cluster, lambda obj: available(3)(obj) and status(obj, "updatedReplicas") == 1)
        assert await images(cluster) == ["db:1", "db:1", "db:2"]
        for name in ("db-0", "db-2"):
            await cluster.client.delete(PODS, name, NS)
            await cluster.clock.sleep(30)
        canary = await wait(cluster, available(3))
        assert await images(cluster) == ["db:1", "db:1", "db:2"]
        assert (status(canary, "currentReplicas"), status(canary, "updatedReplicas")) == (2, 1)
        await patch(cluster, updateStrategy={"rollingUpdate": {"partition": 0}})
        await wait(cluster, updated)
        assert await images(cluster) == ["db:2"] * 3

    play(scenario)


def test_on_delete_leaves_old_pods_until_they_are_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(updateStrategy={"type": "OnDelete"}))
        await wait(cluster, available(3))
        await patch(cluster, template=template("db:2"))
        await cluster.clock.sleep(30)
        await cluster.client.delete(PODS, "db-1", NS)
        await cluster.clock.sleep(30)
        assert await images(cluster) == ["db:1", "db:2", "db:1"]

    play(scenario)


@pytest.mark.parametrize("code", [0, 137])
def test_a_pod_that_ended_is_replaced_by_one_of_its_name(code: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=2))
        await wait(cluster, available(2))
        old = (await pods_of(cluster))["db-0"]
        await cluster.nodes.finish(old, code)
        uid = old["metadata"]["uid"]
        await until(cluster, lambda pods: "db-0" in pods and pods["db-0"]["metadata"]["uid"] != uid)
        await wait(cluster, available(2))

    play(scenario)


def test_a_pod_that_fails_does_not_hold_up_its_own_return_nor_lose_its_storage() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=2, volumeClaimTemplates=[claim()]))
        await wait(cluster, available(2))
        before = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-1", NS)
        await cluster.nodes.finish((await pods_of(cluster))["db-1"], 1)
        await cluster.clock.sleep(30)
        await wait(cluster, available(2))
        after = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data-db-1", NS)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]

    play(scenario)


def test_orphans_of_its_names_are_adopted_and_relabelled_pods_released() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await wait(cluster, available(1))
        await cluster.client.patch(PODS, "db-0", {"metadata": {"ownerReferences": None}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "db-0", lambda pod: bool(pod["metadata"].get("ownerReferences")))
        alien = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alien", "namespace": NS, "labels": LABELS}}
        await cluster.client.create(PODS, {**alien, "spec": template()["spec"]})
        await cluster.client.patch(PODS, "db-0", {"metadata": {"labels": {"app": "other"}}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "db-0", lambda pod: not pod["metadata"].get("ownerReferences"))
        await cluster.client.patch(PODS, "db-0", {"metadata": {"labels": LABELS}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "db-0", lambda pod: bool(pod["metadata"].get("ownerReferences")))
        lone = await cluster.client.get(PODS, "alien", NS)
        assert not lone["metadata"].get("ownerReferences")

    play(scenario)


def test_min_ready_seconds_space_out_the_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        start = cluster.clock.monotonic()
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=2, minReadySeconds=20))
        await wait(cluster, available(2))
        assert 38 <= cluster.clock.monotonic() - start <= 46

    play(scenario)


def test_ordinals_may_start_elsewhere_and_move() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=2, ordinals={"start": 2}))
        await wait(cluster, available(2))
        assert sorted(await pods_of(cluster)) == ["db-2", "db-3"]
        await patch(cluster, ordinals={"start": 3})
        await until(cluster, lambda pods: sorted(pods) == ["db-3", "db-4"])
        await patch(cluster, ordinals=None)
        await until(cluster, lambda pods: sorted(pods) == ["db-0", "db-1"])

    play(scenario)


def test_history_is_kept_within_its_limit() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1, revisionHistoryLimit=1))
        for number in range(2, 6):
            await wait(cluster, updated)
            await patch(cluster, template=template(f"db:{number}"))
        await wait(cluster, updated)
        await cluster.clock.sleep(5)
        revisions = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        assert sorted(each["revision"] for each in revisions) == [4, 5]

    play(scenario)


def test_a_taken_name_of_a_revision_is_counted_as_a_collision() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        name = status(await wait(cluster, updated), "updateRevision")
        await cluster.client.delete(STATEFUL_SETS, "db", NS)
        await cluster.wait_gone(CONTROLLER_REVISIONS, NS, name)
        taken = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": name, "namespace": NS}}
        await cluster.client.create(CONTROLLER_REVISIONS, {**taken, "revision": 1, "data": {"other": True}})
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        done = await wait(cluster, updated)
        assert status(done, "collisionCount") == 1
        assert status(done, "updateRevision") != name

    play(scenario)


def test_nothing_is_written_when_nothing_changes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(volumeClaimTemplates=[claim()]))
        await wait(cluster, available(3))
        await cluster.clock.sleep(60)
        kinds = (STATEFUL_SETS, PERSISTENT_VOLUME_CLAIMS, CONTROLLER_REVISIONS)

        async def versions() -> list[str]:
            listings = [await cluster.client.list(kind, NS) for kind in kinds]
            return [each["metadata"]["resourceVersion"] for listing in listings for each in listing.items]

        before, told = await versions(), await events(cluster)
        await cluster.client.patch(PODS, "db-1", {"metadata": {"annotations": {"a": "b"}}}, NS, type=MERGE_PATCH)
        pod = await cluster.client.get(PODS, "db-1", NS)
        await cluster.clock.sleep(1800)
        assert await versions() == before
        assert await events(cluster) == told
        assert await cluster.client.get(PODS, "db-1", NS) == pod

    play(scenario)


def test_the_identity_labels_of_a_pod_are_put_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=1))
        await wait(cluster, available(1))
        label = "statefulset.kubernetes.io/pod-name"
        await cluster.client.patch(PODS, "db-0", {"metadata": {"labels": {label: None}}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "db-0", lambda pod: pod["metadata"]["labels"].get(label) == "db-0")
        await cluster.clock.sleep(1)
        assert ("SuccessfulUpdate", "Update Pod db-0 in StatefulSet db successful") in await events(cluster)

    play(scenario)


def test_pods_outlive_a_set_that_is_deleted_as_an_orphanage_and_are_adopted_by_the_next() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=2))
        await wait(cluster, available(2))
        before = {name: pod["metadata"]["uid"] for name, pod in (await pods_of(cluster)).items()}
        await cluster.client.delete(STATEFUL_SETS, "db", NS, propagation="Orphan")
        await cluster.wait_gone(STATEFUL_SETS, NS, "db")
        await cluster.client.create(STATEFUL_SETS, stateful_set(replicas=2))
        await wait(cluster, available(2))
        assert {name: pod["metadata"]["uid"] for name, pod in (await pods_of(cluster)).items()} == before
        revisions = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        assert len(revisions) == 1

    play(scenario)
