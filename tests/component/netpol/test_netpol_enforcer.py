"""The enforcer between a real API server and a kernel in memory: when it changes what, and when pods may start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from netpol_world import FakeNftables, pod, policy
from tiphys.base.clock import SystemClock
from tiphys.base.errors import Retry
from tiphys.client.resources import NAMESPACES, NETWORK_POLICIES, PODS, SERVICE_ACCOUNTS
from tiphys.client.types import Client, Listing, Resource, WatchEvent
from tiphys.proxy.policies.enforcer import PolicyEnforcer
from tiphys.proxy.policies.facts import pod_of
from tiphys.testing.cluster import Cluster

Object = dict[str, Any]
FROM_ANYBODY: list[Object] = [{"from": [{"podSelector": {}}]}]
Scenario = Callable[["World"], Awaitable[None]]


class Api:
    """The API server's client, with a watch of policies that can be held up and a server that can be gone."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.asked: list[str] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.gone = False

    async def list(self, resource: Resource, namespace: str = "", **options: Any) -> Listing:
        if self.gone:
            raise ConnectionRefusedError(111, "Connection refused")
        self.asked.append(f"{resource.plural} {namespace}".strip())
        return await self._client.list(resource, namespace, **options)

    async def watch(self, resource: Resource, namespace: str = "", **options: Any) -> AsyncIterator[WatchEvent]:
        async for event in self._client.watch(resource, namespace, **options):
            if resource is NETWORK_POLICIES:
                await self.flowing.wait()
            yield event


class World:
    """A cluster with namespaces x and y, and the firewall of a node."""

    def __init__(self, cluster: Cluster) -> None:
        self.client = cluster.client
        self.api = Api(cluster.client)
        self.nft = FakeNftables()
        self.clock = SystemClock()

    @asynccontextmanager
    async def enforcing(self, *, settled: bool = True, patience: float = 5.0) -> AsyncIterator[PolicyEnforcer]:
        api: Any = self.api
        firewall: Any = self.nft
        enforcer = PolicyEnforcer(api, self.clock, lambda: firewall, patience=patience)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(enforcer.run())
            if settled:
                enforcer.settle()
            yield enforcer
            work.cancel()

    async def pod(self, name: str, address: str, space: str = "x", **more: Any) -> Object:
        made = pod(space, name, (), **more)
        for key in ("uid", "resourceVersion", "creationTimestamp"):
            del made["metadata"][key]
        made["spec"] |= {"terminationGracePeriodSeconds": 0}
        created = await self.client.create(PODS, made, space)
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        return dict(await self.client.update(PODS, {**created, "status": status}, space, subresource="status"))

    async def policy(self, name: str, space: str = "x", **spec: Any) -> None:
        made = policy(space, name, **spec)
        made["metadata"] = {"name": name, "namespace": space}
        await self.client.create(NETWORK_POLICIES, made, space)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.clock.sleep(0.005)

    def isolated(self, address: str) -> bool:
        return self.nft.table is not None and address in self.nft.table.maps["ingress4"]

    def peers(self) -> set[str]:
        assert self.nft.table is not None
        return {one for name, members in self.nft.table.sets.items() if name.startswith("peers4") for one in members}


def run(scenario: Scenario) -> None:
    async def whole() -> None:
        async with Cluster(SystemClock(), nodes=0, controllers="", binder="") as cluster:
            for name in "xy":
                await cluster.client.create(NAMESPACES, {"metadata": {"name": name}})
                await cluster.client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, name)
            await scenario(World(cluster))

    asyncio.run(whole())


def test_without_policies_pods_are_not_watched_and_nothing_is_in_the_kernel() -> None:
    async def scenario(world: World) -> None:
        one = await world.pod("a", "10.0.0.1")
        async with world.enforcing() as enforcer:
            await enforcer.isolate(one, ["10.0.0.1"])
            assert "pods" not in world.api.asked
            assert world.nft.log == []

    run(scenario)


def test_a_pod_that_runs_is_isolated_by_the_first_policy_and_free_after_the_last() -> None:
    async def scenario(world: World) -> None:
        one = await world.pod("a", "10.0.0.1")
        await world.pod("b", "10.0.1.1", node="n2")
        async with world.enforcing() as enforcer:
            await enforcer.isolate(one, ["10.0.0.1"])
            await world.policy("deny", podSelector={"matchLabels": {"pod": "a"}}, ingress=FROM_ANYBODY)
            await world.until(lambda: world.isolated("10.0.0.1"))
            assert world.peers() == {"10.0.0.1", "10.0.1.1"}
            await world.client.delete(NETWORK_POLICIES, "deny", "x")
            await world.until(lambda: world.nft.table is None)

    run(scenario)


def test_a_pod_does_not_start_before_its_rules_are_in_the_kernel() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny")
        async with world.enforcing() as enforcer:
            one = await world.pod("a", "10.0.0.1")
            await enforcer.isolate(one, ["10.0.0.1"])
            assert world.isolated("10.0.0.1")

    run(scenario)


def test_a_pod_waits_for_policies_that_are_older_than_it_though_the_watch_is_late() -> None:
    async def scenario(world: World) -> None:
        async with world.enforcing() as enforcer:
            await world.until(lambda: "networkpolicies" in world.api.asked)
            world.api.flowing.clear()
            await world.policy("deny")
            one = await world.pod("a", "10.0.0.1")
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(enforcer.isolate(one, ["10.0.0.1"]))
                await world.clock.sleep(0.1)
                assert not waiting.done()
                world.api.flowing.set()
            assert world.isolated("10.0.0.1")

    run(scenario)


def test_a_pod_that_is_nobodys_business_starts_though_policies_are_about_others() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny", space="y")
        async with world.enforcing() as enforcer:
            one = await world.pod("a", "10.0.0.1")
            await enforcer.isolate(one, ["10.0.0.1"])
            assert world.nft.log == []

    run(scenario)


def test_a_pod_does_not_start_while_the_kernel_refuses_and_is_told_why() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny")
        world.nft.broken = True
        async with world.enforcing(patience=0.3) as enforcer:
            one = await world.pod("a", "10.0.0.1")
            with pytest.raises(Retry, match=r"network policies are not in force: .*Operation not permitted"):
                await enforcer.isolate(one, ["10.0.0.1"])
            world.nft.broken = False
            await world.until(lambda: world.isolated("10.0.0.1"))
            await enforcer.isolate(one, ["10.0.0.1"])

    run(scenario)


def test_without_the_api_server_new_pods_do_not_start_but_those_that_did_may_again() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny")
        async with world.enforcing() as enforcer:
            old, new = await world.pod("a", "10.0.0.1"), await world.pod("b", "10.0.0.2")
            await enforcer.isolate(old, ["10.0.0.1"])
            world.api.gone = True
            await enforcer.isolate(old, ["10.0.0.1"])
            with pytest.raises(ConnectionRefusedError):
                await enforcer.isolate(new, ["10.0.0.2"])

    run(scenario)


def test_a_restart_changes_nothing_and_nothing_at_all_before_the_pods_of_the_node_are_known() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny", ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "serve-80-tcp"}]}])
        one = await world.pod("a", "10.0.0.1")
        async with world.enforcing() as enforcer:
            await enforcer.isolate(one, ["10.0.0.1"])
        world.nft.log.clear()
        async with world.enforcing(settled=False) as enforcer:
            await world.until(lambda: "pods" in world.api.asked)
            await world.clock.sleep(0.1)
            enforcer.found(str(one["metadata"]["uid"]), "x", ["10.0.0.1"], one, started=True)
            enforcer.settle()
            await enforcer.isolate(one, ["10.0.0.1"])
            two = await world.pod("b", "10.0.0.2")
            await enforcer.isolate(two, ["10.0.0.2"])
            changed = {line.split()[4] for lines in world.nft.log for line in lines}
            assert changed <= {"ingress4", "own4", "port4-tcp-serve-80-tcp", *_peer_sets(world)}
            assert world.isolated("10.0.0.1")

    run(scenario)


def _peer_sets(world: World) -> set[str]:
    assert world.nft.table is not None
    return {name for name in world.nft.table.sets if name.startswith("peers4")}


def test_what_is_left_of_a_pod_that_was_deleted_meanwhile_is_closed() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny", podSelector={"matchLabels": {"pod": "nobody"}})
        async with world.enforcing(settled=False) as enforcer:
            enforcer.found("gone", "x", ["10.0.0.9"], None, started=True)
            enforcer.settle()
            await world.until(lambda: world.isolated("10.0.0.9"))
            enforcer.release("gone", ["10.0.0.9"])
            await world.until(lambda: not world.isolated("10.0.0.9"))

    run(scenario)


def test_a_forcibly_deleted_pod_stays_isolated_until_its_sandbox_is_gone_but_is_nobodys_peer() -> None:
    async def scenario(world: World) -> None:
        await world.policy("deny", ingress=FROM_ANYBODY)
        async with world.enforcing() as enforcer:
            one = await world.pod("a", "10.0.0.1")
            await enforcer.isolate(one, ["10.0.0.1"])
            assert world.peers() == {"10.0.0.1"}
            await world.client.delete(PODS, "a", "x", grace_seconds=0)
            await world.until(lambda: world.peers() == set())
            assert world.isolated("10.0.0.1")
            enforcer.release(pod_of(one).uid, ["10.0.0.1"])
            await world.until(lambda: world.nft.table is None)

    run(scenario)


def test_a_new_pod_does_not_inherit_what_its_address_was_allowed() -> None:
    async def scenario(world: World) -> None:
        allowed = [{"from": [{"podSelector": {"matchLabels": {"pod": "a"}}}]}]
        await world.policy("some", podSelector={"matchLabels": {"pod": "server"}}, ingress=allowed)
        async with world.enforcing() as enforcer:
            server = await world.pod("server", "10.0.0.9")
            await enforcer.isolate(server, ["10.0.0.9"])
            old = await world.pod("a", "10.0.0.1")
            await enforcer.isolate(old, ["10.0.0.1"])
            assert world.peers() == {"10.0.0.1"}
            new = await world.pod("b", "10.0.0.1")  # the old one's object is still there
            await enforcer.isolate(new, ["10.0.0.1"])
            assert world.peers() == set()
            enforcer.release(pod_of(old).uid, ["10.0.0.1"])
            await world.client.delete(PODS, "a", "x", grace_seconds=0)
            await enforcer.isolate(await world.pod("c", "10.0.0.3"), ["10.0.0.3"])
            assert world.peers() == set()

    run(scenario)
