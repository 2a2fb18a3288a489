"""The scheduler on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from tiphys.base.errors import Conflict
from tiphys.client.resources import EVENTS, NODES, PODS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
CONTROLLERS = "namespace,serviceaccount,nodelifecycle"
SMALL = {"cpu": "1", "memory": "1Gi", "pods": "10"}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        wanted = {"nodes": 0, "controllers": CONTROLLERS, "binder": "scheduler", **options}
        async with Cluster(clock, **wanted) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def pod(name: str, cpu: str = "600m", labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
    meta = {"name": name, "namespace": NS, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], **spec}}


def near(app: str) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def bound(node: str = "") -> Callable[[Object], bool]:
    return lambda pod: pod["spec"].get("nodeName", "") == node if node else bool(pod["spec"].get("nodeName"))


def scheduled(pod: Object) -> dict[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((dict(each) for each in conditions if each["type"] == "PodScheduled"), {})


def refused(message: str = "") -> Callable[[Object], bool]:
    def holds(pod: Object) -> bool:
        condition = scheduled(pod)
        return condition.get("reason") == "Unschedulable" and message in condition["message"]

    return holds


async def events(cluster: Cluster, name: str, reason: str) -> list[str]:
    fields = f"involvedObject.name={name},reason={reason}"
    return [event["message"] for event in (await cluster.client.list(EVENTS, NS, fields=fields)).items]


async def add_node(cluster: Cluster, name: str, **options: Any) -> None:
    """A node that is ready and not tainted as new any more."""
    await cluster.nodes.add(name, room=SMALL, **options)
    await cluster.wait(NODES, "", name, lambda node: not _new(node))


def _new(node: Object) -> bool:
    return any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints") or ())


async def waits(cluster: Cluster, name: str, **spec: Any) -> None:
    await cluster.client.create(PODS, pod(name, **spec))
    await cluster.wait(PODS, NS, name, refused(), timeout=5)


def test_a_pod_is_bound_and_an_event_says_where() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await cluster.client.create(PODS, pod("p"))
        held = await cluster.wait(PODS, NS, "p", bound("n1"), timeout=5)
        assert scheduled(held)["status"] == "True"
        await cluster.clock.sleep(1)
        assert await events(cluster, "p", "Scheduled") == [f"Successfully assigned {NS}/p to n1"]

    play(scenario)


def test_a_pod_without_room_says_why_and_says_so_no_more_when_it_fits() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await waits(cluster, "p", cpu="2")
        held = await cluster.client.get(PODS, "p", NS)
        condition = scheduled(held)
        assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")
        assert condition["observedGeneration"] == 1
        await cluster.clock.sleep(1)
        assert await events(cluster, "p", "FailedScheduling") == [condition["message"]]
        room = {**SMALL, "cpu": "4"}
        node = await cluster.client.get(NODES, "n1")
        await cluster.client.update(
            NODES, {**node, "status": {**node["status"], "allocatable": room}}, subresource="status"
        )
        condition = scheduled(await cluster.wait(PODS, NS, "p", bound("n1"), timeout=12))
        assert (condition["status"], condition.get("reason"), condition.get("message")) == ("True", None, None)

    play(scenario)


def test_without_any_node_the_message_says_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("p"))
        held = await cluster.wait(PODS, NS, "p", refused(), timeout=5)
        assert scheduled(held)["message"] == "no nodes available to schedule pods"
        await add_node(cluster, "n1")
        await cluster.wait(PODS, NS, "p", bound("n1"), timeout=12)

    play(scenario)


async def _add_node(cluster: Cluster) -> None:
    await add_node(cluster, "n2", labels={"disk": "ssd"})


async def _delete_pod(cluster: Cluster) -> None:
    await cluster.client.delete(PODS, "big", NS, grace_seconds=0)


async def _remove_taint(cluster: Cluster) -> None:
    await cluster.client.patch(NODES, "n1", {"spec": {"taints": None}}, type=MERGE_PATCH)


async def _uncordon(cluster: Cluster) -> None:
    await cluster.client.patch(NODES, "n1", {"spec": {"unschedulable": None}}, type=MERGE_PATCH)


async def _label(cluster: Cluster) -> None:
    await cluster.client.patch(NODES, "n1", {"metadata": {"labels": {"disk": "ssd"}}}, type=MERGE_PATCH)


@pytest.mark.parametrize(
    ("node", "spec", "message", "change"),
    [
        ({}, {}, "1 Insufficient cpu", _add_node),
        ({}, {}, "1 Insufficient cpu", _delete_pod),
        ({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, {}, "1 node(s) had untolerated taint(s)", _remove_taint),
        ({"unschedulable": True}, {}, "1 node(s) were unschedulable", _uncordon),
        ({}, {"nodeSelector": {"disk": "ssd"}}, "1 node(s) didn't match Pod's node affinity/selector", _label),
        ({}, {"nodeSelector": {"disk": "ssd"}}, "1 node(s) didn't match Pod's node affinity/selector", _add_node),
    ],
    ids=["node added", "pod deleted", "taint removed", "uncordoned", "node labelled", "labelled node added"],
)
def test_a_waiting_pod_goes_when_what_it_waits_for_happens(
    node: dict[str, Any], spec: dict[str, Any], message: str, change: Callable[[Cluster], Coroutine[Any, Any, None]]
) -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        if "Insufficient" in message:
            await cluster.client.create(PODS, pod("big"))
            await cluster.wait(PODS, NS, "big", bound(), timeout=5)
        await cluster.client.patch(NODES, "n1", {"spec": node}, type=MERGE_PATCH)
        await cluster.client.create(PODS, pod("p", **spec))
        await cluster.wait(PODS, NS, "p", refused(f"0/1 nodes are available: {message}."), timeout=5)
        await cluster.clock.sleep(60)
        await change(cluster)
        await cluster.wait(PODS, NS, "p", bound(), timeout=5)

    play(scenario)


def test_pods_of_other_schedulers_and_with_gates_are_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await cluster.client.create(PODS, pod("theirs", schedulerName="other"))
        await cluster.client.create(PODS, pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
        await cluster.clock.sleep(400)
        for name in ("theirs", "gated"):
            held = await cluster.client.get(PODS, name, NS)
            assert not held["spec"].get("nodeName")
            assert not await events(cluster, name, "FailedScheduling")
        assert scheduled(held)["reason"] == "SchedulingGated"
        await cluster.client.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "gated", bound("n1"), timeout=5)

    play(scenario)


def test_the_more_important_pod_gets_the_room_that_comes() -> None:
    async def scenario(cluster: Cluster) -> None:
        classes = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}}
        await cluster.client.call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {**classes, "value": 1000})
        await waits(cluster, "low")
        await waits(cluster, "high", priorityClassName="high")
        await cluster.clock.sleep(60)
        await add_node(cluster, "n1")
        await cluster.wait(PODS, NS, "high", bound("n1"), timeout=12)
        await cluster.clock.sleep(30)
        assert not (await cluster.client.get(PODS, "low", NS))["spec"].get("nodeName")

    play(scenario)


def test_a_pod_with_affinity_waits_for_its_partner_and_follows_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await add_node(cluster, "n2")
        await cluster.client.create(PODS, pod("p", cpu="100m", affinity=near("db")))
        await cluster.wait(PODS, NS, "p", refused("2 node(s) didn't match pod affinity rules."), timeout=5)
        await cluster.client.create(PODS, pod("db", cpu="100m", labels={"app": "db"}))
        partner = await cluster.wait(PODS, NS, "db", bound(), timeout=5)
        await cluster.wait(PODS, NS, "p", bound(partner["spec"]["nodeName"]), timeout=5)

    play(scenario)


def test_a_partner_may_also_come_by_its_labels() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await cluster.client.create(PODS, pod("db", cpu="100m"))
        await waits(cluster, "p", cpu="100m", affinity=near("db"))
        await cluster.clock.sleep(60)
        await cluster.client.patch(PODS, "db", {"metadata": {"labels": {"app": "db"}}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "p", bound("n1"), timeout=1)

    play(scenario)


def test_a_pod_that_names_its_node_by_affinity_hears_of_that_node_only() -> None:
    field = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}

    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await add_node(cluster, "n2")
        await cluster.client.create(PODS, pod("p", cpu="2", affinity=affinity))
        message = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."
        await cluster.wait(PODS, NS, "p", refused(message), timeout=5)

    play(scenario)


async def _bind(cluster: Cluster, name: str, node: str) -> None:
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    await cluster.client.create(PODS, binding, NS, name=name, subresource="binding")


def _interfere(cluster: Cluster, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have `act` done between the scheduler's next decision and its Binding."""
    handler = cluster.server.handler
    due = [act]

    async def intercept(request: Any) -> Any:
        if due and request.path.endswith("/binding") and request.user.name == "system:kube-scheduler":
            await due.pop()()
        return await handler(request)

    cluster.server.handler = intercept


def test_a_pod_that_somebody_else_bound_first_counts_where_it_is() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await add_node(cluster, "n2", taints=[{"key": "gpu", "effect": "NoSchedule"}])
        _interfere(cluster, lambda: _bind(cluster, "p", "n2"))
        async with cluster.scheduler():
            await cluster.client.create(PODS, pod("p"))
            await cluster.wait(PODS, NS, "p", bound("n2"), timeout=5)
            await cluster.client.create(PODS, pod("q"))
            await cluster.wait(PODS, NS, "q", bound("n1"), timeout=5)
            tolerant = pod("r", tolerations=[{"operator": "Exists"}])
            await cluster.client.create(PODS, tolerant)
            await cluster.wait(PODS, NS, "r", refused("2 Insufficient cpu"), timeout=5)

    play(scenario, binder="")


def test_a_refused_binding_gives_the_room_back_and_is_tried_again() -> None:
    async def refuse() -> None:
        raise Conflict("try again")

    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        _interfere(cluster, refuse)
        async with cluster.scheduler():
            before = cluster.clock.monotonic()
            await cluster.client.create(PODS, pod("p"))
            await cluster.wait(PODS, NS, "p", bound("n1"), timeout=5)
            assert 1 <= cluster.clock.monotonic() - before < 2
            await cluster.clock.sleep(1)
            assert await events(cluster, "p", "FailedScheduling") == ["binding rejected: try again"]

    play(scenario, binder="")


def test_a_pod_that_is_deleted_while_it_is_bound_gives_the_room_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")

        async def delete() -> None:
            await cluster.client.delete(PODS, "p", NS, grace_seconds=0)

        _interfere(cluster, delete)
        async with cluster.scheduler():
            await cluster.client.create(PODS, pod("p"))
            await cluster.wait_gone(PODS, NS, "p", timeout=5)
            await cluster.client.create(PODS, pod("q", cpu="1"))
            await cluster.wait(PODS, NS, "q", bound("n1"), timeout=5)

    play(scenario, binder="")


def test_a_node_that_goes_while_a_pod_is_bound_is_not_used_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")

        async def remove() -> None:
            await cluster.nodes.remove("n1")

        _interfere(cluster, remove)
        async with cluster.scheduler():
            await cluster.client.create(PODS, pod("p"))
            await cluster.wait(PODS, NS, "p", bound("n1"), timeout=5)
            await cluster.client.create(PODS, pod("q"))
            held = await cluster.wait(PODS, NS, "q", refused(), timeout=5)
            assert scheduled(held)["message"] == "no nodes available to schedule pods"

    play(scenario, binder="")


def test_a_scheduler_that_starts_anew_goes_on_where_the_last_one_stopped() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        async with cluster.scheduler():
            await cluster.client.create(PODS, pod("first"))
            await cluster.wait(PODS, NS, "first", bound("n1"), timeout=5)
            await waits(cluster, "second")
        await cluster.client.create(PODS, pod("third", cpu="300m"))
        await cluster.clock.sleep(60)
        async with cluster.scheduler():
            await cluster.wait(PODS, NS, "third", bound("n1"), timeout=5)
            await cluster.client.delete(PODS, "first", NS, grace_seconds=0)
            await cluster.wait(PODS, NS, "second", bound("n1"), timeout=12)

    play(scenario, binder="")


def test_nothing_is_given_away_twice_in_a_burst() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(4):
            await add_node(cluster, f"n{number}")
        for number in range(12):
            await cluster.client.create(PODS, pod(f"p{number}", cpu="500m"))
        await cluster.clock.sleep(5)
        where = [item["spec"].get("nodeName", "") for item in (await cluster.client.list(PODS, NS)).items]
        assert sorted(where.count(f"n{number}") for number in range(4)) == [2, 2, 2, 2]
        assert where.count("") == 4

    play(scenario)


def test_a_waiting_pod_costs_nothing_while_nothing_changes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await add_node(cluster, "n1")
        await waits(cluster, "p", cpu="2")
        await cluster.clock.sleep(30)
        before = (await cluster.client.get(PODS, "p", NS))["metadata"]["resourceVersion"]
        await cluster.clock.sleep(3000)
        assert (await cluster.client.get(PODS, "p", NS))["metadata"]["resourceVersion"] == before

    play(scenario)
