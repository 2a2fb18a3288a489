"""Taints that end pods, on the real API server and virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.base.errors import NotFound
from tiphys.client.resources import EVENTS, NODES, PODS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
CONTROLLERS = "namespace,serviceaccount,taint-eviction-controller"
KEY = "example.com/evict"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, **{"controllers": CONTROLLERS, **options}) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def pod(name: str, *tolerations: dict[str, Any], node: str = "node-1", **meta: Any) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "tolerations": list(tolerations)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS, **meta}, "spec": spec}


def bears(seconds: int | None = None, key: str = KEY) -> dict[str, Any]:
    limit = {} if seconds is None else {"tolerationSeconds": seconds}
    return {"key": key, "operator": "Exists", "effect": "NoExecute", **limit}


async def taint(cluster: Cluster, *keys: str, node: str = "node-1", effect: str = "NoExecute") -> None:
    taints = [{"key": key, "value": "v", "effect": effect} for key in keys]
    await cluster.client.patch(NODES, node, {"spec": {"taints": taints or None}}, type=MERGE_PATCH)


async def alive(cluster: Cluster, name: str) -> bool:
    try:
        found = await cluster.client.get(PODS, name, NS)
    except NotFound:
        return False
    return "deletionTimestamp" not in found["metadata"]


async def told(cluster: Cluster) -> Counter[str]:
    await cluster.clock.sleep(1)
    events = (await cluster.client.list(EVENTS, NS)).items
    mine = [each for each in events if each["source"]["component"] == "taint-eviction-controller"]
    assert all((each["type"], each["reason"]) == ("Normal", "TaintManagerEviction") for each in mine)
    return Counter({each["message"]: each["count"] for each in mine})


async def create(cluster: Cluster, *pods: dict[str, Any]) -> None:
    for each in pods:
        await cluster.client.create(PODS, each)
    await cluster.clock.sleep(1)


def test_only_pods_that_do_not_tolerate_the_taint_are_evicted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(
            cluster, pod("bare", finalizers=["example.com/wait"]), pod("calm", bears()), pod("elsewhere", node="node-2")
        )
        await taint(cluster, KEY)
        await cluster.clock.sleep(60)
        gone = await cluster.client.get(PODS, "bare", NS)
        assert "deletionTimestamp" in gone["metadata"]
        target = next(each for each in gone["status"]["conditions"] if each["type"] == "DisruptionTarget")
        assert (target["status"], target["reason"]) == ("True", "DeletionByTaintManager")
        assert target["message"] == "Taint manager: deleting due to NoExecute taint"
        assert target["observedGeneration"] == 1
        assert await alive(cluster, "calm")
        assert await alive(cluster, "elsewhere")
        assert await told(cluster) == {"Marking for deletion Pod default/bare": 1}

    play(scenario, nodes=2)


def test_a_finite_toleration_only_delays_the_eviction() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("patient", bears(65)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(64)
        assert await alive(cluster, "patient")
        await cluster.wait_gone(PODS, NS, "patient", timeout=40)

    play(scenario)


def test_removing_the_taint_cancels_the_eviction() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("patient", bears(60)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(30)
        await taint(cluster)
        await cluster.clock.sleep(600)
        assert await alive(cluster, "patient")
        assert await told(cluster) == {"Cancelling deletion of Pod default/patient": 1}

    play(scenario)


def test_each_pod_has_its_own_patience() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("one", bears(30)), pod("two", bears(90)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(31)
        assert [await alive(cluster, "one"), await alive(cluster, "two")] == [False, True]
        await cluster.clock.sleep(60)
        assert not await alive(cluster, "two")

    play(scenario)


def test_the_least_patience_for_any_of_several_taints_counts() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("p", bears(50), bears(20, "example.com/other")))
        await taint(cluster, KEY, "example.com/other")
        await cluster.clock.sleep(19)
        assert await alive(cluster, "p")
        await cluster.clock.sleep(2)
        assert not await alive(cluster, "p")

    play(scenario)


def test_a_second_taint_does_not_move_the_end_unless_it_is_not_tolerated() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("both", bears(60), bears(5, "example.com/other")), pod("first", bears(60)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(10)
        await taint(cluster, KEY, "example.com/other")
        await cluster.clock.sleep(20)
        assert [await alive(cluster, "both"), await alive(cluster, "first")] == [True, False]
        await cluster.clock.sleep(31)
        assert not await alive(cluster, "both")
        messages = await told(cluster)
        assert messages["Cancelling deletion of Pod default/first"] == 1
        assert messages["Marking for deletion Pod default/first"] == 1

    play(scenario)


def test_a_pod_that_comes_to_a_tainted_node_is_evicted_too() -> None:
    async def scenario(cluster: Cluster) -> None:
        await taint(cluster, KEY)
        await create(cluster, pod("late"), pod("later", bears(10)))
        assert [await alive(cluster, "late"), await alive(cluster, "later")] == [False, True]
        await cluster.clock.sleep(10)
        assert not await alive(cluster, "later")

    play(scenario)


def test_a_toleration_that_is_added_in_time_cancels() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("p", bears(30)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(10)
        held = await cluster.client.get(PODS, "p", NS)
        for_ever = [*held["spec"]["tolerations"], {"operator": "Exists"}]
        added = {**held, "spec": {**held["spec"], "tolerations": for_ever}}
        await cluster.client.update(PODS, added)
        await cluster.clock.sleep(15)
        await taint(cluster, "example.com/other")
        await cluster.clock.sleep(60)
        assert await alive(cluster, "p")

    play(scenario)


def test_a_pod_that_is_deleted_before_its_end_is_told_of() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("p", bears(600)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(1)
        await cluster.client.delete(PODS, "p", NS, grace_seconds=0)
        assert await told(cluster) == {"Cancelling deletion of Pod default/p": 1}

    play(scenario)


def test_a_namesake_is_not_punished_for_the_pod_before_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("p", bears(60)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(30)
        await cluster.client.delete(PODS, "p", NS, grace_seconds=0)
        await create(cluster, pod("p", bears(60)))
        await cluster.clock.sleep(50)
        assert await alive(cluster, "p")

    play(scenario)


def test_the_end_of_a_node_does_not_save_its_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("p", bears(20), finalizers=["example.com/wait"]))
        await taint(cluster, KEY)
        await cluster.clock.sleep(10)
        await cluster.nodes.remove("node-1")
        await cluster.clock.sleep(11)
        assert not await alive(cluster, "p")

    play(scenario)


def test_taints_that_only_repel_evict_nobody() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("p"))
        for effect in ("NoSchedule", "PreferNoSchedule"):
            await taint(cluster, KEY, effect=effect)
            await cluster.clock.sleep(60)
        assert await alive(cluster, "p")
        assert not await told(cluster)

    play(scenario)


def test_many_pods_of_a_node_are_all_evicted_at_their_time() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(300):
            await cluster.client.create(PODS, pod(f"p{number}", bears(10 + number % 3 * 10)))
        await taint(cluster, KEY)

        async def left() -> int:
            pods: tuple[Object, ...] = (await cluster.client.list(PODS, NS)).items
            return sum("deletionTimestamp" not in each["metadata"] for each in pods)

        counts = []
        for wait in (9, 2, 10, 10):
            await cluster.clock.sleep(wait)
            counts.append(await left())
        assert counts == [300, 200, 100, 0]

    play(scenario)


def test_a_manager_that_starts_again_counts_from_its_start() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, pod("bare"), pod("patient", bears(30)))
        await taint(cluster, KEY)
        await cluster.clock.sleep(60)
        async with cluster.managing(CONTROLLERS):
            await cluster.clock.sleep(1)
            assert [await alive(cluster, "bare"), await alive(cluster, "patient")] == [False, True]
            await cluster.clock.sleep(30)
            assert not await alive(cluster, "patient")

    play(scenario, controllers="namespace,serviceaccount")
