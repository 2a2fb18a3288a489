"""Load balancers from a local pool, on the real API server and on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import EVENTS, NODES, SERVICES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
SETTINGS: dict[str, object] = {"load-balancer-addresses": "192.0.2.10-192.0.2.11"}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        wanted = {"nodes": 1, "controllers": "service-lb-controller", "settings": SETTINGS, **options}
        async with Cluster(clock, **wanted) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def service(name: str, **spec: Any) -> dict[str, Any]:
    wanted = {"type": "LoadBalancer", "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": wanted}


def ingress(held: Object) -> list[str]:
    found = (held.get("status") or {}).get("loadBalancer", {}).get("ingress") or ()
    return [each["ip"] for each in found]


async def events(cluster: Cluster, name: str) -> list[tuple[str, str]]:
    await cluster.clock.sleep(1)
    found = (await cluster.client.list(EVENTS, NS)).items
    mine = [each for each in found if each["involvedObject"]["name"] == name]
    return [(each["reason"], each["message"]) for each in sorted(mine, key=lambda each: str(each["metadata"]["name"]))]


async def get(cluster: Cluster, name: str) -> Object:
    await cluster.clock.sleep(1)
    return await cluster.client.get(SERVICES, name, NS)


async def patch(cluster: Cluster, name: str, spec: dict[str, Any]) -> None:
    await cluster.client.patch(SERVICES, name, {"spec": spec}, NS, type=MERGE_PATCH)


def test_a_load_balancer_gets_an_address_a_finalizer_and_events() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service("web"))
        held = await get(cluster, "web")
        assert held["status"] == {"loadBalancer": {"ingress": [{"ip": "192.0.2.10", "ipMode": "VIP"}]}}
        assert held["metadata"]["finalizers"] == [FINALIZER]
        assert await events(cluster, "web") == [
            ("EnsuringLoadBalancer", "Ensuring load balancer"),
            ("EnsuredLoadBalancer", "Ensured load balancer"),
        ]
        (told, *_) = (await cluster.client.list(EVENTS, NS)).items
        assert told["source"] == {"component": "service-controller"}
        await cluster.clock.sleep(3600)
        assert await get(cluster, "web") == held

    play(scenario)


def test_a_deleted_service_gives_its_address_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service("web"))
        await get(cluster, "web")
        await cluster.client.delete(SERVICES, "web", NS)
        await cluster.wait_gone(SERVICES, NS, "web", 10)
        assert (await events(cluster, "web"))[2:] == [
            ("DeletingLoadBalancer", "Deleting load balancer"),
            ("DeletedLoadBalancer", "Deleted load balancer"),
        ]
        await cluster.client.create(SERVICES, service("other"))
        assert ingress(await get(cluster, "other")) == ["192.0.2.10"]

    play(scenario)


def test_another_type_ends_the_load_balancer_and_the_type_again_makes_one() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service("web"))
        await get(cluster, "web")
        await patch(cluster, "web", {"type": "NodePort"})
        held = await get(cluster, "web")
        assert held["status"] == {"loadBalancer": {}}
        assert "finalizers" not in held["metadata"]
        assert ("DeletedLoadBalancer", "Deleted load balancer") in await events(cluster, "web")
        await cluster.client.create(SERVICES, service("other"))
        assert ingress(await get(cluster, "other")) == ["192.0.2.10"]
        await patch(cluster, "web", {"type": "LoadBalancer"})
        assert ingress(await get(cluster, "web")) == ["192.0.2.11"]

    play(scenario)


def test_who_finds_the_pool_empty_is_told_and_served_when_an_address_is_free() -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in ("a", "b", "c"):
            await cluster.client.create(SERVICES, service(name))
        assert ingress(await get(cluster, "c")) == []
        assert (await events(cluster, "c"))[-1] == (
            "SyncLoadBalancerFailed",
            "Error syncing load balancer: failed to ensure load balancer: "
            "all addresses of the pool of load balancers 192.0.2.10-192.0.2.11 are in use",
        )
        await cluster.client.delete(SERVICES, "a", NS)
        assert ingress(await get(cluster, "c")) == ["192.0.2.10"]
        assert ingress(await get(cluster, "b")) == ["192.0.2.11"]

    play(scenario)


def test_the_address_that_is_asked_for_is_given_if_it_is_free_and_in_the_pool() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service("a", loadBalancerIP="192.0.2.11"))
        assert ingress(await get(cluster, "a")) == ["192.0.2.11"]
        await cluster.client.create(SERVICES, service("b", loadBalancerIP="192.0.2.11"))
        assert ingress(await get(cluster, "b")) == []
        assert "192.0.2.11 is in use" in (await events(cluster, "b"))[-1][1]
        await cluster.client.create(SERVICES, service("far", loadBalancerIP="198.51.100.1"))
        assert ingress(await get(cluster, "far")) == []
        assert "198.51.100.1 is not in the pool" in (await events(cluster, "far"))[-1][1]
        await patch(cluster, "a", {"loadBalancerIP": "192.0.2.10"})
        assert ingress(await get(cluster, "a")) == ["192.0.2.10"]
        assert ingress(await get(cluster, "b")) == ["192.0.2.11"]

    play(scenario)


def test_services_of_another_class_and_clusters_without_a_pool_are_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        made = await cluster.client.create(SERVICES, service("web", loadBalancerClass="example.com/internal-vip"))
        assert await get(cluster, "web") == made
        assert await events(cluster, "web") == []

    async def without(cluster: Cluster) -> None:
        made = await cluster.client.create(SERVICES, service("web"))
        assert await get(cluster, "web") == made

    play(scenario)
    play(without, settings={})


def test_ports_that_change_are_told_and_the_address_stays() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service("web"))
        await get(cluster, "web")
        await patch(cluster, "web", {"ports": [{"port": 81}]})
        assert ingress(await get(cluster, "web")) == ["192.0.2.10"]
        found = [
            each for each in (await cluster.client.list(EVENTS, NS)).items if each["reason"] == "EnsuredLoadBalancer"
        ]
        assert sum(each["count"] for each in found) == 2

    play(scenario)


def test_addresses_are_kept_over_restarts_without_a_write() -> None:
    async def scenario(cluster: Cluster) -> None:
        config = manager.ManagerConfig(connect=cluster.connect, settings=SETTINGS)

        async def run() -> None:
            await manager.run(cluster.connect(MANAGER), cluster.clock, "service-lb-controller", config)

        async with background(run):
            for name in ("a", "b"):
                await cluster.client.create(SERVICES, service(name))
            await get(cluster, "b")
            await cluster.client.delete(SERVICES, "a", NS)
            held = await get(cluster, "b")
        told = await events(cluster, "b")
        async with background(run):
            await cluster.clock.sleep(60)
            assert await get(cluster, "b") == held
            assert await events(cluster, "b") == told
            await cluster.client.create(SERVICES, service("c"))
            assert ingress(await get(cluster, "c")) == ["192.0.2.10"]

    play(scenario, controllers="")


def test_load_balancers_hear_of_nodes_that_come_and_go() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service("web"))
        await get(cluster, "web")
        await cluster.nodes.add("node-2")
        assert (await events(cluster, "web"))[-1] == (
            "UpdatedLoadBalancer",
            "Updated load balancer with new hosts",
        )
        label = {"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}}}
        for name in ("node-1", "node-2"):
            await cluster.client.patch(NODES, name, label, type=MERGE_PATCH)
        assert ("UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer") in await events(
            cluster, "web"
        )

    play(scenario)
