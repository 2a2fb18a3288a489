"""Endpoints and EndpointSlices on the real API server, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=2) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def service(**spec: Any) -> dict[str, Any]:
    wanted = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NS}, "spec": wanted}


def deployment(replicas: int) -> dict[str, Any]:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NS}, "spec": spec}


def has(count: int) -> Callable[[Object], bool]:
    return lambda each: sum(len(one.get("addresses") or ()) for one in each.get("subsets") or ()) == count


async def slices(cluster: Cluster) -> list[Object]:
    marks = "kubernetes.io/service-name=web"
    return list((await cluster.client.list(ENDPOINT_SLICES, NS, labels=marks)).items)


async def count(cluster: Cluster) -> int:
    return sum(len(each.get("endpoints") or ()) for each in await slices(cluster))


def test_endpoints_and_slices_follow_the_pods_and_go_with_the_service() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        await cluster.wait(ENDPOINTS, NS, "web", has(0), 10)
        await cluster.client.create(DEPLOYMENTS, deployment(3))
        held = await cluster.wait(ENDPOINTS, NS, "web", has(3), 30)
        assert held["subsets"][0]["ports"] == [{"port": 8080, "protocol": "TCP"}]
        await cluster.clock.sleep(2)
        (only,) = await slices(cluster)
        assert len(only["endpoints"]) == 3
        assert only["metadata"]["ownerReferences"][0]["kind"] == "Service"
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 150}}, NS, type=MERGE_PATCH)
        await cluster.wait(ENDPOINTS, NS, "web", has(150), 120)
        await cluster.clock.sleep(5)
        assert await count(cluster) == 150
        assert len(await slices(cluster)) == 2
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, NS, type=MERGE_PATCH)
        await cluster.wait(ENDPOINTS, NS, "web", has(1), 120)
        await cluster.clock.sleep(60)
        assert await count(cluster) == 1
        await cluster.client.delete(SERVICES, "web", NS)
        await cluster.wait_gone(ENDPOINTS, NS, "web", 30)
        await cluster.clock.sleep(30)
        assert await slices(cluster) == []

    play(scenario)


def test_a_pod_that_is_not_ready_is_listed_as_such() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.nodes.ready = False
        await cluster.client.create(SERVICES, service())
        await cluster.client.create(DEPLOYMENTS, deployment(1))

        def unready(each: Object) -> bool:
            return any(one.get("notReadyAddresses") for one in each.get("subsets") or ())

        await cluster.wait(ENDPOINTS, NS, "web", unready, 30)
        await cluster.clock.sleep(1)
        (only,) = await slices(cluster)
        assert only["endpoints"][0]["conditions"] == {"ready": False, "serving": False, "terminating": False}
        (pod,) = (await cluster.client.list(PODS, NS)).items
        ready = [{"type": "Ready", "status": "True"}]
        await cluster.client.update(
            PODS, {**pod, "status": {**pod["status"], "conditions": ready}}, subresource="status"
        )
        await cluster.wait(ENDPOINTS, NS, "web", has(1), 30)

    play(scenario)


def test_endpoints_of_services_without_a_selector_are_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service(selector=None))
        mine = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": NS}}
        subsets = [{"addresses": [{"ip": "192.0.2.1"}]}]
        await cluster.client.create(ENDPOINTS, {**mine, "subsets": subsets})
        await cluster.clock.sleep(60)
        held = await cluster.client.get(ENDPOINTS, "web", NS)
        assert held["subsets"] == subsets
        assert (await cluster.client.get(ENDPOINTS, "kubernetes", NS))["subsets"]

    play(scenario)


def test_nothing_is_written_while_nothing_changes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        await cluster.client.create(DEPLOYMENTS, deployment(2))
        await cluster.wait(ENDPOINTS, NS, "web", has(2), 30)
        await cluster.clock.sleep(5)
        before = [await cluster.client.get(ENDPOINTS, "web", NS), *await slices(cluster)]
        await cluster.clock.sleep(3600)
        assert before == [await cluster.client.get(ENDPOINTS, "web", NS), *await slices(cluster)]

    play(scenario)
