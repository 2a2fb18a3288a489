"""Nodes get ranges of pod addresses, on the real API server and on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from ipaddress import ip_network
from typing import Any

from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.local import LocalClient
from tiphys.client.resources import EVENTS, NODES
from tiphys.client.streams import closing
from tiphys.client.types import Client
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import ADMIN, MANAGER, Cluster, background

NAME = "node-ipam-controller"


def play(
    scenario: Callable[[Cluster], Coroutine[Any, Any, None]], kind: type[Cluster] = Cluster, **options: Any
) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with kind(clock, **{"nodes": 2, "controllers": NAME, **options}) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


async def ranges(cluster: Cluster, name: str) -> list[str]:
    await cluster.clock.sleep(1)
    spec = (await cluster.client.get(NODES, name))["spec"]
    found = list(spec.get("podCIDRs") or ())
    assert found[:1] == ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return found


def test_a_dual_stack_cluster_gives_each_node_a_range_of_both_families() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await ranges(cluster, "node-1") == ["fd00::/64", "10.1.0.0/26"]
        assert await ranges(cluster, "node-2") == ["fd00:0:0:1::/64", "10.1.0.64/26"]

    settings = {"cluster-cidr": "fd00::/56,10.1.0.0/16", "node-cidr-mask-size-ipv4": 26}
    play(scenario, settings=settings)


def test_a_node_without_a_range_is_told_of_and_gets_that_of_a_node_that_goes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.nodes.add("node-3")
        assert await ranges(cluster, "node-3") == []
        (told,) = (await cluster.client.list(EVENTS, "default")).items
        assert (told["reason"], told["message"], told["type"]) == (
            "CIDRNotAvailable",
            "Node node-3 status is now: CIDRNotAvailable",
            "Normal",
        )
        assert told["source"]["component"] == "cidrAllocator"
        freed = await ranges(cluster, "node-1")
        await cluster.nodes.remove("node-1")
        assert await ranges(cluster, "node-3") == freed

    play(scenario, settings={"cluster-cidr": "10.1.0.0/23"})


class SlowWatches(LocalClient):
    """A client that hears of each change half a second late."""

    def __init__(self, cluster: Cluster, user: User) -> None:
        super().__init__(cluster.server.handler, user, agent="slow")
        self._clock = cluster.clock

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        async with closing(super().events(call)) as events:
            async for event in events:
                await self._clock.sleep(0.5)
                yield event


class SlowCluster(Cluster):
    def connect(self, user: User) -> Client:
        return LocalClient(self.server.handler, user) if user is ADMIN else SlowWatches(self, user)


def test_a_node_that_changes_while_it_gets_its_range_gets_one() -> None:
    async def scenario(cluster: Cluster) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
        await cluster.client.create(NODES, node)
        await cluster.client.patch(NODES, "node-1", {"metadata": {"labels": {"a": "b"}}})
        await cluster.clock.sleep(60)
        assert len(await ranges(cluster, "node-1")) == 1
        assert not (await cluster.client.list(EVENTS, "default")).items

    play(scenario, SlowCluster, nodes=0, settings={"cluster-cidr": "10.1.0.0/16"})


def test_ranges_are_kept_over_restarts_and_none_is_given_twice() -> None:
    async def scenario(cluster: Cluster) -> None:
        config = manager.ManagerConfig(connect=cluster.connect, settings={"cluster-cidr": "10.1.0.0/16"})

        async def run() -> None:
            await manager.run(cluster.connect(MANAGER), cluster.clock, NAME, config)

        async with background(run):
            assert await ranges(cluster, "node-1") == ["10.1.0.0/24"]
            assert await ranges(cluster, "node-2") == ["10.1.1.0/24"]
        await cluster.nodes.add("node-0")
        strange = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}
        await cluster.client.create(
            NODES, {**strange, "spec": {"podCIDR": "192.0.2.0/24", "podCIDRs": ["192.0.2.0/24"]}}
        )
        async with background(run):
            assert await ranges(cluster, "node-0") == ["10.1.2.0/24"]
            assert await ranges(cluster, "node-1") == ["10.1.0.0/24"]
            assert await ranges(cluster, "other") == ["192.0.2.0/24"]

    play(scenario, controllers="")


def test_nodes_with_ranges_of_their_own_have_those_and_others_get_none_of_the_reserved_ones() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await ranges(cluster, "node-2") == ["10.1.2.0/24"]
        assert await ranges(cluster, "node-1") == ["10.1.4.0/24"]
        await cluster.nodes.remove("node-2")
        await cluster.nodes.add("node-3")
        assert await ranges(cluster, "node-3") == ["10.1.5.0/24"]
        await cluster.nodes.add("node-2")
        assert await ranges(cluster, "node-2") == ["10.1.2.0/24"]

    fixed = {"node-2": ("10.1.2.0/24",)}
    settings = {
        "cluster-cidr": "10.1.0.0/16",
        "reserved-cidrs": (ip_network("10.1.0.0/22"),),
        "node-ranges": lambda name: fixed.get(name, ()),
    }
    play(scenario, settings=settings)
