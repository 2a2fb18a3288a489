"""ReplicaSets, Deployments and DaemonSets on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, EVENTS, NODES, PODS, REPLICA_SETS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
LABELS = {"app": "web"}


def template(image: str = "nginx:1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(kind: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NS},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template(), **spec},
    }


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], nodes: int = 2) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=nodes) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def count(field: str, wanted: int) -> Callable[[Object], bool]:
    return lambda obj: (obj.get("status") or {}).get(field, 0) == wanted


def rolled_out(replicas: int) -> Callable[[Object], bool]:
    def check(obj: Object) -> bool:
        status = obj.get("status") or {}
        fresh = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        names = ("replicas", "updatedReplicas", "availableReplicas")
        return fresh and all(status.get(name, 0) == replicas for name in names)

    return check


async def pods_of(cluster: Cluster) -> list[Object]:
    listing = await cluster.client.list(PODS, NS, labels="app=web")
    return [pod for pod in listing.items if not pod["metadata"].get("deletionTimestamp")]


async def set_image(cluster: Cluster, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    await cluster.client.patch(DEPLOYMENTS, "web", patch, NS, type=MERGE_PATCH)


async def reasons(cluster: Cluster, kind: str) -> list[str]:
    events = (await cluster.client.list(EVENTS, NS)).items
    return [event["reason"] for event in events if event["involvedObject"]["kind"] == kind]


def test_a_replica_set_replaces_a_deleted_pod_and_scales() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", replicas=3))
        await cluster.wait(REPLICA_SETS, NS, "web", count("availableReplicas", 3))
        victim = (await pods_of(cluster))[0]
        await cluster.client.delete(PODS, victim["metadata"]["name"], NS)
        await cluster.clock.sleep(60)
        names = {pod["metadata"]["name"] for pod in await pods_of(cluster)}
        assert len(names) == 3
        assert victim["metadata"]["name"] not in names
        await cluster.client.patch(REPLICA_SETS, "web", {"spec": {"replicas": 1}}, NS, type=MERGE_PATCH)
        await cluster.wait(REPLICA_SETS, NS, "web", count("replicas", 1))
        assert {"SuccessfulCreate", "SuccessfulDelete"} <= set(await reasons(cluster, "ReplicaSet"))

    play(scenario)


def test_a_replica_set_adopts_matching_orphans_and_releases_relabelled_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        orphan = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lone", "namespace": NS, "labels": LABELS}}
        await cluster.client.create(PODS, {**orphan, "spec": template()["spec"]})
        await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", replicas=2))
        await cluster.wait(REPLICA_SETS, NS, "web", count("availableReplicas", 2))
        lone = await cluster.client.get(PODS, "lone", NS)
        assert lone["metadata"]["ownerReferences"][0]["name"] == "web"
        patch = {"metadata": {"labels": {"app": "other"}}}
        await cluster.client.patch(PODS, "lone", patch, NS, type=MERGE_PATCH)
        lone = await cluster.wait(PODS, NS, "lone", lambda pod: not pod["metadata"].get("ownerReferences"))
        await cluster.clock.sleep(5)
        await cluster.wait(REPLICA_SETS, NS, "web", count("availableReplicas", 2))
        assert len(await pods_of(cluster)) == 2

    play(scenario)


def test_an_update_keeps_within_its_bounds_and_can_be_rolled_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=4))
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(4))
        seen: list[tuple[int, int]] = []

        def watching(obj: Object) -> bool:
            status = obj.get("status") or {}
            seen.append((status.get("replicas", 0), status.get("availableReplicas", 0)))
            return rolled_out(4)(obj)

        await set_image(cluster, "nginx:2")
        updated = await cluster.wait(DEPLOYMENTS, NS, "web", watching)
        assert max(total for total, _ in seen) <= 5
        assert min(available for _, available in seen) >= 3
        assert updated["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
        await set_image(cluster, "nginx:1")
        undone = await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(4))
        assert undone["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        sets = (await cluster.client.list(REPLICA_SETS, NS)).items
        assert len(sets) == 2
        current = next(each for each in sets if each["spec"]["replicas"])
        assert current["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
        assert "ScalingReplicaSet" in await reasons(cluster, "Deployment")

    play(scenario)


def test_recreate_stops_all_old_pods_before_it_starts_new_ones() -> None:
    async def scenario(cluster: Cluster) -> None:
        wanted = workload("Deployment", replicas=3, strategy={"type": "Recreate"})
        await cluster.client.create(DEPLOYMENTS, wanted)
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(3))
        before = {pod["metadata"]["uid"] for pod in await pods_of(cluster)}
        await set_image(cluster, "nginx:2")
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(3))
        assert before.isdisjoint({pod["metadata"]["uid"] for pod in await pods_of(cluster)})

    play(scenario)


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=2))
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(2))
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"paused": True}}, NS, type=MERGE_PATCH)
        await set_image(cluster, "nginx:2")
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, NS, type=MERGE_PATCH)
        await cluster.wait(DEPLOYMENTS, NS, "web", count("availableReplicas", 3))
        assert len((await cluster.client.list(REPLICA_SETS, NS)).items) == 1
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"paused": None}}, NS, type=MERGE_PATCH)
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(3))
        images = {pod["spec"]["containers"][0]["image"] for pod in await pods_of(cluster)}
        assert images == {"nginx:2"}

    play(scenario)


def test_a_rollout_without_progress_misses_its_deadline() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.ready = False
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=1, progressDeadlineSeconds=30))

        def timed_out(obj: Object) -> bool:
            conditions = (obj.get("status") or {}).get("conditions") or []
            return any(each["reason"] == "ProgressDeadlineExceeded" for each in conditions)

        await cluster.wait(DEPLOYMENTS, NS, "web", timed_out, timeout=60)

    play(scenario)


def test_old_revisions_beyond_the_history_limit_are_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=1, revisionHistoryLimit=1))
        for number in range(1, 5):
            await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(1))
            await set_image(cluster, f"nginx:{number + 1}")
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(1))
        await cluster.clock.sleep(10)
        assert len((await cluster.client.list(REPLICA_SETS, NS)).items) == 2

    play(scenario)


def test_min_ready_seconds_delay_availability() -> None:
    async def scenario(cluster: Cluster) -> None:
        start = cluster.clock.monotonic()
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=1, minReadySeconds=20))
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(1), timeout=60)
        assert 19 <= cluster.clock.monotonic() - start <= 22

    play(scenario)


def test_a_daemon_set_has_one_pod_a_node_also_on_nodes_added_later() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DAEMON_SETS, workload("DaemonSet"))
        await cluster.wait(DAEMON_SETS, NS, "web", count("numberReady", 2))
        await cluster.nodes.add("node-3")
        await cluster.wait(DAEMON_SETS, NS, "web", count("numberReady", 3))
        assert sorted(pod["spec"]["nodeName"] for pod in await pods_of(cluster)) == ["node-1", "node-2", "node-3"]
        await cluster.client.patch(NODES, "node-3", {"metadata": {"labels": {"edge": "true"}}}, type=MERGE_PATCH)
        chosen = {"spec": {"template": {"spec": {"nodeSelector": {"edge": "true"}}}}}
        await cluster.client.patch(DAEMON_SETS, "web", chosen, NS, type=MERGE_PATCH)
        await cluster.wait(DAEMON_SETS, NS, "web", count("desiredNumberScheduled", 1))
        await cluster.clock.sleep(120)
        assert [pod["spec"]["nodeName"] for pod in await pods_of(cluster)] == ["node-3"]

    play(scenario)


def test_a_daemon_set_rolls_node_by_node_and_keeps_its_revisions() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DAEMON_SETS, workload("DaemonSet"))
        await cluster.wait(DAEMON_SETS, NS, "web", count("numberAvailable", 3))
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}
        await cluster.client.patch(DAEMON_SETS, "web", patch, NS, type=MERGE_PATCH)
        fewest = 3

        def done(obj: Object) -> bool:
            nonlocal fewest
            status = obj["status"]
            if status["observedGeneration"] < 2:
                return False
            fewest = min(fewest, status.get("numberAvailable", 0))
            return bool(status.get("updatedNumberScheduled", 0) == 3 and status.get("numberAvailable", 0) == 3)

        await cluster.wait(DAEMON_SETS, NS, "web", done)
        assert fewest >= 2
        revisions = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        assert sorted(each["revision"] for each in revisions) == [1, 2]

    play(scenario, nodes=3)


def test_with_surge_each_old_pod_is_deleted_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        await cluster.client.create(DAEMON_SETS, workload("DaemonSet", updateStrategy=strategy))
        await cluster.wait(DAEMON_SETS, NS, "web", count("numberAvailable", 2))
        for image in ("nginx:2", "nginx:3"):
            patch = {"spec": {"template": template(image)}}
            await cluster.client.patch(DAEMON_SETS, "web", patch, NS, type=MERGE_PATCH)
            await cluster.wait(DAEMON_SETS, NS, "web", count("updatedNumberScheduled", 0))
            await cluster.wait(DAEMON_SETS, NS, "web", count("updatedNumberScheduled", 2))
            await cluster.clock.sleep(60)
        deletions = [each for each in await reasons(cluster, "DaemonSet") if each == "SuccessfulDelete"]
        assert len(deletions) == 4

    play(scenario)


def test_a_revision_that_somebody_deletes_comes_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DAEMON_SETS, workload("DaemonSet"))
        await cluster.wait(DAEMON_SETS, NS, "web", count("numberAvailable", 2))
        (first,) = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        await cluster.client.delete(CONTROLLER_REVISIONS, first["metadata"]["name"], NS)
        await cluster.clock.sleep(1)
        (again,) = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        assert again["metadata"]["name"] == first["metadata"]["name"]
        assert again["metadata"]["uid"] != first["metadata"]["uid"]

    play(scenario)


def test_an_idle_cluster_writes_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=2))
        await cluster.wait(DEPLOYMENTS, NS, "web", rolled_out(2))
        await cluster.clock.sleep(60)
        before = (await cluster.client.list(PODS, NS)).resource_version
        deployment = await cluster.client.get(DEPLOYMENTS, "web", NS)
        await cluster.clock.sleep(3600)
        after = (await cluster.client.list(PODS, NS)).resource_version
        leases, compactions = 3600 / 10 * 2, 3600 / 300
        assert int(after) - int(before) <= leases + compactions + 5
        assert await cluster.client.get(DEPLOYMENTS, "web", NS) == deployment

    play(scenario)
