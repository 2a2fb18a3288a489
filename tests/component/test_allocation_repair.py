"""A server repairs what its Services and IPAddresses do not agree on, and tells what it cannot repair."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.errors import Invalid
from tiphys.base.http.types import Request
from tiphys.client.local import LocalClient
from tiphys.client.resources import EVENTS, IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from tiphys.client.types import MERGE_PATCH, Client
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import ADMIN

NS = "default"
MANAGED = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}


class World:
    """A server, and another with other flags over the same store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.store = clock, MemoryStore()

    async def serve(self, scenario: Callable[[Client], Coroutine[Any, Any, None]], **config: Any) -> None:
        async with ApiServer(ApiServerConfig(**config), self.store, self.clock) as server:
            self.handler = server.handler
            await scenario(LocalClient(server.handler, ADMIN))

    async def metrics(self) -> str:
        answer = await self.handler(Request("GET", "/metrics", user=ADMIN))
        return answer.body.decode()


def play(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()
    try:
        clock.run(scenario(World(clock)))
    finally:
        clock.close()


def service(name: str, **spec: Any) -> dict[str, Any]:
    wanted = {"ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": wanted}


def service_cidr(name: str, *cidrs: str) -> dict[str, Any]:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}
    return {**kind, "metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


def ip_address(ip: str, parent: str, labels: dict[str, str]) -> dict[str, Any]:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress"}
    reference = {"resource": "services", "namespace": NS, "name": parent}
    return {**kind, "metadata": {"name": ip, "labels": labels}, "spec": {"parentRef": reference}}


async def addresses(client: Client) -> dict[str, str]:
    found = (await client.list(IP_ADDRESSES)).items
    return {each["metadata"]["name"]: each["spec"]["parentRef"]["name"] for each in found}


async def events(client: Client) -> dict[tuple[str, str], int]:
    """How often each (object, reason) was told."""
    found = (await client.list(EVENTS)).items
    return {(each["involvedObject"]["name"], each["reason"]): each["count"] for each in found}


def test_a_deleted_address_of_a_service_comes_back_while_the_server_runs() -> None:
    async def scenario(world: World) -> None:
        async def use(client: Client) -> None:
            made = await client.create(SERVICES, service("web"))
            ip = made["spec"]["clusterIP"]
            await world.clock.sleep(10)
            assert await events(client) == {}
            await client.delete(IP_ADDRESSES, ip)
            assert ip not in await addresses(client)
            await world.clock.sleep(6)
            assert (await addresses(client))[ip] == "web"
            assert await events(client) == {("web", "ClusterIPNotAllocated"): 1}
            [event] = (await client.list(EVENTS)).items
            assert event["reportingComponent"] == "ipallocator-repair-controller"
            assert event["action"] == "ClusterIPAllocation"
            assert 'apiserver_clusterip_repair_ip_errors_total{type="repair"} 1' in await world.metrics()

        await world.serve(use)

    play(scenario)


def test_addresses_of_nobody_go_and_those_of_others_stay() -> None:
    async def scenario(world: World) -> None:
        async def use(client: Client) -> None:
            await client.create(IP_ADDRESSES, ip_address("10.96.0.7", "gone", MANAGED))
            await client.create(IP_ADDRESSES, ip_address("10.96.0.8", "gone", {}))
            await world.clock.sleep(58)
            assert "10.96.0.7" in await addresses(client)
            await world.clock.sleep(8)
            assert sorted(await addresses(client)) == ["10.96.0.1", "10.96.0.8"]
            assert await events(client) == {("10.96.0.7", "IPAddressNotAllocated"): 1}

        await world.serve(use)

    play(scenario)


def test_what_cannot_be_repaired_is_told_every_three_minutes_until_it_is_well() -> None:
    async def scenario(world: World) -> None:
        async def first(client: Client) -> None:
            await client.create(SERVICES, service("web", type="NodePort"))

        async def second(client: Client) -> None:
            await client.create(SERVICE_CIDRS, service_cidr("more", "10.98.0.0/28"))
            await client.create(SERVICES, service("far", clusterIP="10.98.0.5"))
            await client.delete(SERVICE_CIDRS, "more")
            await world.clock.sleep(6)
            reasons = [("far", "ClusterIPOutOfRange"), ("web", "PortOutOfRange")]
            assert await events(client) == dict(zip(reasons, (1, 2), strict=True))
            for name in ("far", "web"):
                await client.patch(SERVICES, name, {"metadata": {"labels": {"a": "b"}}}, NS, type=MERGE_PATCH)
            await world.clock.sleep(10)
            assert await events(client) == dict(zip(reasons, (2, 3), strict=True))
            await world.clock.sleep(180)
            assert await events(client) == dict(zip(reasons, (3, 4), strict=True))
            assert 'apiserver_nodeport_repair_port_errors_total{type="outOfRange"} 4' in await world.metrics()
            for name in ("far", "web"):
                await client.delete(SERVICES, name, NS)
            await world.clock.sleep(400)
            assert await events(client) == dict(zip(reasons, (3, 4), strict=True))

        await world.serve(first, node_ports=(30000, 30100))
        await world.serve(second, node_ports=(31000, 31100))

    play(scenario)


def test_what_is_given_out_is_counted() -> None:
    async def scenario(world: World) -> None:
        async def use(client: Client) -> None:
            ports = [{"name": "a", "port": 80, "nodePort": 30005}, {"name": "b", "port": 81}]
            await client.create(SERVICES, service("web", type="NodePort", clusterIP="10.96.0.9", ports=ports))
            await client.create(SERVICES, service("other"))
            for name, spec in (("taken", {"clusterIP": "10.96.0.9"}), ("port", {"type": "NodePort", "ports": ports})):
                with pytest.raises(Invalid):
                    await client.create(SERVICES, service(name, **spec))
            told = await world.metrics()
            addresses, ports_of = "kube_apiserver_clusterip_allocator", "kube_apiserver_nodeport_allocator"
            for line in (
                f'{addresses}_allocated_ips{{cidr="10.96.0.0/24"}} 3',
                f'{addresses}_available_ips{{cidr="10.96.0.0/24"}} 251',
                f'{addresses}_allocation_total{{cidr="10.96.0.0/24",scope="static"}} 2',
                f'{addresses}_allocation_total{{cidr="10.96.0.0/24",scope="dynamic"}} 2',
                f'{addresses}_allocation_errors_total{{cidr="10.96.0.0/24",scope="static"}} 1',
                f"{ports_of}_allocated_ports 2",
                f"{ports_of}_available_ports 99",
                f'{ports_of}_allocation_total{{scope="static"}} 1',
                f'{ports_of}_allocation_errors_total{{scope="static"}} 1',
            ):
                assert f"{line}\n" in told

        await world.serve(use, service_cidr="10.96.0.0/24", node_ports=(30000, 30100))

    play(scenario)
