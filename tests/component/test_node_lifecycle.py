"""Nodes that fall silent, come back, and are lost together, on the real API server and virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.client.resources import EVENTS, NODES, PODS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
CONTROLLERS = "namespace,serviceaccount,node-lifecycle-controller"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, **{"controllers": CONTROLLERS, "nodes": 3, **options}) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def pod(name: str, node: str) -> dict[str, Any]:
    spec = {**({"nodeName": node} if node else {}), "containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS}, "spec": spec}


def taints(node: Object) -> list[str]:
    return [f"{each['key'].partition('/')[2]}:{each['effect']}" for each in node["spec"].get("taints") or ()]


LOST = ["unreachable:NoSchedule", "unreachable:NoExecute"]


async def taints_of(cluster: Cluster, *names: str) -> list[list[str]]:
    return [taints(await cluster.client.get(NODES, name)) for name in names]


def conditions(obj: Object) -> dict[str, str]:
    return {each["type"]: each["status"] for each in (obj.get("status") or {}).get("conditions") or ()}


async def told(cluster: Cluster, kind: str) -> list[str]:
    await cluster.clock.sleep(1)
    events = (await cluster.client.list(EVENTS, NS)).items
    mine = [each for each in events if each["involvedObject"]["kind"] == kind]
    return [each["message"] for each in mine if each["source"]["component"] == "node-controller"]


async def condition(cluster: Cluster, node: str, type: str, status: str) -> None:
    """What the node's kubelet would post."""
    held = await cluster.client.get(NODES, node)
    now = rfc3339(cluster.clock.time())
    new = {"type": type, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now}
    others = [each for each in held["status"].get("conditions") or () if each["type"] != type]
    status_ = {**held["status"], "conditions": [*others, new]}
    await cluster.client.update(NODES, {**held, "status": status_}, subresource="status")


async def lose(cluster: Cluster, *names: str) -> None:
    """Wait until the nodes, which fall silent now, are known to be lost."""
    for name in names:
        cluster.nodes.silence(name)
    for name in names:
        await cluster.wait(NODES, "", name, lambda node: conditions(node)["Ready"] == "Unknown", timeout=70)


def test_a_silent_node_is_unknown_unreachable_and_told_of_and_its_pods_are_not_ready() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("p", "node-2"))
        await cluster.clock.sleep(20)
        await lose(cluster, "node-2")
        node = await cluster.client.get(NODES, "node-2")
        assert set(conditions(node).values()) == {"Unknown"}
        assert {each["reason"] for each in node["status"]["conditions"]} == {"NodeStatusUnknown"}
        assert {each["message"] for each in node["status"]["conditions"]} == {"Kubelet stopped posting node status."}
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-2") == [LOST]
        assert all("timeAdded" in each for each in (await cluster.client.get(NODES, "node-2"))["spec"]["taints"])
        assert conditions(await cluster.client.get(PODS, "p", NS))["Ready"] == "False"
        assert await told(cluster, "Pod") == ["Node is not ready"]
        assert "Node node-2 status is now: NodeNotReady" in await told(cluster, "Node")
        await cluster.nodes.revive("node-2")
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-2") == [[]]

    play(scenario)


def test_a_node_that_says_itself_that_it_is_not_ready_keeps_its_pods_ready() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("p", "node-2"))
        await cluster.clock.sleep(20)
        await condition(cluster, "node-2", "Ready", "False")
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-2") == [["not-ready:NoSchedule", "not-ready:NoExecute"]]
        assert conditions(await cluster.client.get(PODS, "p", NS))["Ready"] == "True"
        assert not await told(cluster, "Pod")
        assert "Node node-2 status is now: NodeNotReady" not in await told(cluster, "Node")

    play(scenario)


def test_not_ready_turns_into_unreachable_without_a_pause() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        await condition(cluster, "node-2", "Ready", "False")
        await cluster.clock.sleep(1)
        await lose(cluster, "node-2")
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-2") == [LOST]

    play(scenario)


def test_a_pod_that_comes_to_a_lost_node_is_not_ready() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        await lose(cluster, "node-2")
        made = await cluster.client.create(PODS, pod("late", ""))
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await cluster.client.update(PODS, {**made, "status": {**made["status"], **ready}}, subresource="status")
        target = {"apiVersion": "v1", "kind": "Node", "name": "node-2"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "late"}, "target": target}
        await cluster.client.create(PODS, binding, NS, name="late", subresource="binding")
        await cluster.clock.sleep(1)
        assert conditions(await cluster.client.get(PODS, "late", NS))["Ready"] == "False"

    play(scenario, binder="")


@pytest.mark.parametrize(
    ("type", "taint"),
    [
        ("MemoryPressure", "memory-pressure"),
        ("DiskPressure", "disk-pressure"),
        ("PIDPressure", "pid-pressure"),
        ("NetworkUnavailable", "network-unavailable"),
    ],
)
def test_pressure_repels_pods(type: str, taint: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await condition(cluster, "node-1", type, "True")
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-1") == [[f"{taint}:NoSchedule"]]
        await condition(cluster, "node-1", type, "False")
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-1") == [[]]

    play(scenario)


def test_a_cordoned_node_repels_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        for cordoned, expected in ((True, ["unschedulable:NoSchedule"]), (False, [])):
            await cluster.client.patch(NODES, "node-1", {"spec": {"unschedulable": cordoned}}, type=MERGE_PATCH)
            await cluster.clock.sleep(1)
            assert await taints_of(cluster, "node-1") == [expected]

    play(scenario)


def test_labels_of_old_follow_those_of_now() -> None:
    async def scenario(cluster: Cluster) -> None:
        old = {"beta.kubernetes.io/os": "other", "kubernetes.io/arch": "arm64"}
        await cluster.nodes.add("node-9", labels=old)
        await cluster.clock.sleep(1)
        labels = (await cluster.client.get(NODES, "node-9"))["metadata"]["labels"]
        assert (labels["beta.kubernetes.io/os"], labels["beta.kubernetes.io/arch"]) == ("linux", "arm64")

    play(scenario)


def test_nodes_come_and_go_with_an_event() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.nodes.add("extra")
        await cluster.clock.sleep(5)
        await cluster.nodes.remove("extra")
        messages = await told(cluster, "Node")
        assert messages.count("Node extra event: Registered Node extra in Controller") == 1
        assert messages.count("Node extra event: Removing Node extra from Controller") == 1

    play(scenario)


def test_a_node_that_never_posts_a_status_is_unknown_a_minute_after_it_was_made() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "mute"}})
        await cluster.clock.sleep(55)
        assert not conditions(await cluster.client.get(NODES, "mute"))
        await cluster.clock.sleep(12)
        node = await cluster.client.get(NODES, "mute")
        found = node["status"]["conditions"]
        assert [each["type"] for each in found] == ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        assert {each["status"] for each in found} == {"Unknown"}
        assert {each["reason"] for each in found} == {"NodeStatusNeverUpdated"}
        assert {each["message"] for each in found} == {"Kubelet never posted node status."}
        assert {each["lastHeartbeatTime"] for each in found} == {node["metadata"]["creationTimestamp"]}
        assert taints(node) == LOST

    play(scenario)


def test_lost_nodes_of_a_zone_are_given_up_one_in_ten_seconds() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        names = ("node-1", "node-2", "node-3")
        await lose(cluster, *names)
        counts = []
        for _ in range(4):
            await cluster.clock.sleep(1)
            found = await taints_of(cluster, *names)
            counts.append(sum("unreachable:NoExecute" in each for each in found))
            await cluster.clock.sleep(9)
        assert counts == [1, 2, 3, 3]
        assert all("unreachable:NoSchedule" in each for each in await taints_of(cluster, *names))

    play(scenario, nodes=8)


def test_nodes_that_are_lost_together_with_most_of_a_small_zone_are_not_given_up() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        names = ("node-1", "node-2", "node-3", "node-4")
        await lose(cluster, *names)
        await cluster.clock.sleep(120)
        assert await taints_of(cluster, *names) == [["unreachable:NoSchedule"]] * 4
        await cluster.nodes.revive("node-4")
        await cluster.clock.sleep(2)
        assert all("unreachable:NoExecute" not in each for each in await taints_of(cluster, *names))
        await cluster.nodes.revive("node-3")
        await cluster.clock.sleep(60)
        assert await taints_of(cluster, *names) == [LOST, LOST, [], []]

    play(scenario, nodes=6)


def test_a_node_that_was_given_up_stays_so_when_its_zone_is_lost_in_part() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        await lose(cluster, "node-1")
        await cluster.clock.sleep(1)
        await lose(cluster, "node-2", "node-3")
        await cluster.clock.sleep(120)
        given_up = [LOST, ["unreachable:NoSchedule"], ["unreachable:NoSchedule"]]
        assert await taints_of(cluster, "node-1", "node-2", "node-3") == given_up

    play(scenario, nodes=5)


def test_the_loss_of_the_last_node_takes_everything_back_until_one_is_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        await lose(cluster, "node-1")
        await cluster.clock.sleep(1)
        assert await taints_of(cluster, "node-1") == [LOST]
        await lose(cluster, "node-2")
        await cluster.clock.sleep(300)
        assert await taints_of(cluster, "node-1", "node-2") == [["unreachable:NoSchedule"]] * 2
        await cluster.nodes.revive("node-2")
        await cluster.clock.sleep(5)
        assert await taints_of(cluster, "node-1", "node-2") == [["unreachable:NoSchedule"], []]
        await cluster.clock.sleep(10)
        assert await taints_of(cluster, "node-1", "node-2") == [LOST, []]

    play(scenario, nodes=2)


def test_a_zone_that_is_lost_as_a_whole_is_given_up_while_another_lives() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(3):
            await cluster.nodes.add(f"far-{number}", labels={"topology.kubernetes.io/zone": "far"})
        await cluster.clock.sleep(20)
        names = ("far-0", "far-1", "far-2")
        await lose(cluster, *names)
        await cluster.clock.sleep(25)
        assert await taints_of(cluster, *names) == [LOST] * 3

    play(scenario, nodes=1)


def test_a_node_that_is_lost_and_deleted_lets_the_next_one_be_given_up() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        await lose(cluster, "node-1", "node-2", "node-3")
        await cluster.clock.sleep(1)
        waiting = [
            name
            for name in ("node-1", "node-2", "node-3")
            if taints(await cluster.client.get(NODES, name)) == ["unreachable:NoSchedule"]
        ]
        assert len(waiting) == 2
        await cluster.nodes.remove(waiting[0])
        await cluster.clock.sleep(10)
        assert await taints_of(cluster, waiting[1]) == [LOST]

    play(scenario, nodes=8)


def test_a_resync_of_an_unchanged_cluster_writes_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(20)
        await lose(cluster, "node-2")
        await cluster.clock.sleep(30)
        before = (await cluster.client.list(NODES)).items
        await cluster.clock.sleep(1800)
        assert (await cluster.client.list(NODES)).items == before

    play(scenario)


def test_a_manager_that_starts_again_gives_a_silent_node_a_new_grace() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.silence("node-2")
        await cluster.clock.sleep(300)
        async with cluster.managing(CONTROLLERS):
            await cluster.clock.sleep(45)
            assert conditions(await cluster.client.get(NODES, "node-2"))["Ready"] == "True"
            await cluster.clock.sleep(15)
            assert conditions(await cluster.client.get(NODES, "node-2"))["Ready"] == "Unknown"

    play(scenario, controllers="namespace,serviceaccount")
