"""Pods that nobody else deletes, on the real API server and virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import NODES, PODS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
CONTROLLERS = "namespace,serviceaccount,pod-garbage-collector-controller"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, **{"controllers": CONTROLLERS, "nodes": 2, **options}) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def pod(name: str, node: str = "", **meta: Any) -> dict[str, Any]:
    where = {"nodeName": node} if node else {}
    spec = {**where, "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS, **meta}, "spec": spec}


HELD: dict[str, Any] = {"finalizers": ["example.com/wait"]}


def target(found: Object) -> tuple[str, str] | None:
    for each in found["status"].get("conditions") or ():
        if each["type"] == "DisruptionTarget":
            return each["reason"], each["message"]
    return None


async def set_ready(cluster: Cluster, node: str, value: str) -> None:
    held = await cluster.client.get(NODES, node)
    conditions = [{"type": "Ready", "status": value}]
    await cluster.client.update(
        NODES, {**held, "status": {**held["status"], "conditions": conditions}}, subresource="status"
    )


def test_an_orphan_fails_and_goes_after_its_nodes_quarantine() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("orphan", "node-2", **HELD))
        await cluster.client.create(PODS, pod("stays", "node-1"))
        await cluster.clock.sleep(1)
        await cluster.nodes.remove("node-2")
        await cluster.clock.sleep(38)
        assert (await cluster.client.get(PODS, "orphan", NS))["status"]["phase"] == "Running"
        await cluster.clock.sleep(4)
        found = await cluster.client.get(PODS, "orphan", NS)
        assert target(found) == ("DeletionByPodGC", "PodGC: node no longer exists")
        assert (found["status"]["phase"], found["metadata"]["deletionGracePeriodSeconds"]) == ("Failed", 0)
        assert found["status"]["observedGeneration"] == 1
        assert await cluster.exists(PODS, NS, "stays")

    play(scenario)


def test_a_node_that_comes_back_in_time_keeps_its_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("p", "node-2"))
        await cluster.clock.sleep(1)
        await cluster.nodes.remove("node-2")
        await cluster.clock.sleep(30)
        await cluster.nodes.add("node-2")
        await cluster.clock.sleep(60)
        assert await cluster.exists(PODS, NS, "p")
        await cluster.nodes.remove("node-2")
        await cluster.clock.sleep(30)
        assert await cluster.exists(PODS, NS, "p")
        await cluster.wait_gone(PODS, NS, "p", timeout=15)

    play(scenario)


def test_a_finished_orphan_keeps_its_phase() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("done", "node-2", **HELD))
        await cluster.clock.sleep(1)
        await cluster.nodes.finish(await cluster.client.get(PODS, "done", NS))
        await cluster.nodes.remove("node-2")
        await cluster.clock.sleep(45)
        found = await cluster.client.get(PODS, "done", NS)
        assert (found["status"]["phase"], target(found)) == ("Succeeded", None)
        assert "deletionTimestamp" in found["metadata"]

    play(scenario)


def test_a_pod_that_goes_without_ever_having_had_a_node_fails() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("p", **HELD))
        await cluster.client.delete(PODS, "p", NS)
        await cluster.clock.sleep(30)
        found = await cluster.client.get(PODS, "p", NS)
        assert (found["status"]["phase"], target(found)) == ("Failed", None)

    play(scenario, binder="", nodes=0)


def test_terminating_pods_of_a_node_that_is_out_of_service_are_deleted_by_force() -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in ("goes", "stays"):
            await cluster.client.create(PODS, pod(name, "node-2", **HELD))
        await cluster.clock.sleep(1)
        cluster.nodes.silence("node-2")
        await cluster.client.delete(PODS, "goes", NS)
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await cluster.client.patch(NODES, "node-2", {"spec": {"taints": [taint]}}, type=MERGE_PATCH)
        await cluster.clock.sleep(60)
        assert (await cluster.client.get(PODS, "goes", NS))["status"]["phase"] == "Running"
        await set_ready(cluster, "node-2", "Unknown")
        await cluster.clock.sleep(25)
        found = await cluster.client.get(PODS, "goes", NS)
        assert (found["status"]["phase"], found["metadata"]["deletionGracePeriodSeconds"]) == ("Failed", 0)
        assert target(found) is None
        assert (await cluster.client.get(PODS, "stays", NS))["status"]["phase"] == "Running"

    play(scenario)


def test_finished_pods_above_the_threshold_go_evicted_ones_first_and_then_the_oldest() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(8):
            await cluster.client.create(PODS, pod(f"p{number}", "node-1"))
            await cluster.clock.sleep(2)
        held = await cluster.client.get(PODS, "p6", NS)
        evicted = {**held["status"], "phase": "Failed", "reason": "Evicted"}
        await cluster.client.update(PODS, {**held, "status": evicted}, subresource="status")
        for number in (5, 4, 3, 2, 1, 0):
            await cluster.nodes.finish(await cluster.client.get(PODS, f"p{number}", NS))
        await cluster.clock.sleep(30)
        left = {each["metadata"]["name"] for each in (await cluster.client.list(PODS, NS)).items}
        assert left == {"p2", "p3", "p4", "p5", "p7"}

    settings = {"root-ca": "x", "terminated-pod-gc-threshold": 4}
    play(scenario, settings=settings)


def test_a_threshold_of_zero_keeps_everything() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(5):
            await cluster.client.create(PODS, pod(f"p{number}", "node-1"))
        await cluster.clock.sleep(1)
        for each in (await cluster.client.list(PODS, NS)).items:
            await cluster.nodes.finish(each)
        await cluster.clock.sleep(60)
        assert len((await cluster.client.list(PODS, NS)).items) == 5

    play(scenario, settings={"root-ca": "x", "terminated-pod-gc-threshold": 0})


def test_a_manager_that_starts_finds_what_was_left_behind() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("orphan", "node-2"))
        await cluster.clock.sleep(1)
        await cluster.nodes.remove("node-2")
        await cluster.clock.sleep(300)
        async with cluster.managing(CONTROLLERS):
            await cluster.clock.sleep(30)
            assert await cluster.exists(PODS, NS, "orphan")
            await cluster.wait_gone(PODS, NS, "orphan", timeout=15)

    play(scenario, controllers="namespace,serviceaccount")
