"""Services of a cluster with two IP families, through the API server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.errors import Invalid, NotFound
from tiphys.client.local import LocalClient
from tiphys.client.resources import ENDPOINT_SLICES, ENDPOINTS, IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from tiphys.client.types import MERGE_PATCH, Client, Object
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import ADMIN

NS = "default"
DUAL = "10.96.0.0/28,fd00:1::/112"


class World:
    """One API server at a time over one store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.store = clock, MemoryStore()

    async def serve(self, cidr: str, scenario: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        address = "fd00::9" if cidr.startswith("fd") else "10.0.0.9"
        config = ApiServerConfig(service_cidr=cidr, advertise_address=address)
        async with ApiServer(config, self.store, self.clock) as server:
            await scenario(LocalClient(server.handler, ADMIN))


def play(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()
    try:
        clock.run(scenario(World(clock)))
    finally:
        clock.close()


def serving(cidr: str, scenario: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    play(lambda world: world.serve(cidr, scenario))


def service(name: str, **spec: Any) -> dict[str, Any]:
    wanted = {"ports": [{"port": 80}], "selector": {"a": "b"}, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": wanted}


async def change(client: Client, name: str, **spec: Any) -> Any:
    return (await client.patch(SERVICES, name, {"spec": spec}, NS, type=MERGE_PATCH))["spec"]


async def listed(client: Client) -> dict[str, str]:
    """Family by address of all IPAddresses but that of the Service `kubernetes`."""
    found = (await client.list(IP_ADDRESSES)).items
    own = (each for each in found if each["spec"]["parentRef"]["name"] != "kubernetes")
    return {each["metadata"]["name"]: each["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] for each in own}


def test_each_address_of_a_service_has_an_ip_address_that_comes_and_goes_with_it() -> None:
    async def scenario(client: Client) -> None:
        made = (await client.create(SERVICES, service("s", ipFamilyPolicy="PreferDualStack")))["spec"]
        assert made["ipFamilies"] == ["IPv4", "IPv6"]
        assert await listed(client) == dict(zip(made["clusterIPs"], made["ipFamilies"], strict=True))
        one = await change(client, "s", ipFamilyPolicy="SingleStack")
        assert (one["clusterIPs"], one["ipFamilies"]) == (made["clusterIPs"][:1], ["IPv4"])
        assert await listed(client) == {made["clusterIP"]: "IPv4"}
        both = await change(client, "s", ipFamilyPolicy="RequireDualStack")
        assert both["clusterIP"] == made["clusterIP"]
        assert len(await listed(client)) == 2
        name = await change(client, "s", type="ExternalName", externalName="a.b")
        assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & name.keys()
        assert await listed(client) == {}
        await change(client, "s", type="ClusterIP", externalName=None, ipFamilies=["IPv6"])
        assert list((await listed(client)).values()) == ["IPv6"]
        await client.delete(SERVICES, "s", NS)
        assert await listed(client) == {}

    serving(DUAL, scenario)


def test_the_api_servers_own_service_has_the_primary_family() -> None:
    async def scenario(client: Client) -> None:
        own = await client.get(SERVICES, "kubernetes", NS)
        assert own["spec"]["clusterIPs"] == ["fd00:1::1"]
        assert (own["spec"]["ipFamilies"], own["spec"]["ipFamilyPolicy"]) == (["IPv6"], "SingleStack")
        assert (await client.get(ENDPOINT_SLICES, "kubernetes", NS))["addressType"] == "IPv6"
        made = await client.create(SERVICES, service("s", ipFamilyPolicy="PreferDualStack"))
        assert made["spec"]["ipFamilies"] == ["IPv6", "IPv4"]

    serving("fd00:1::/112,10.96.0.0/28", scenario)


def test_a_cluster_may_get_a_second_family_and_its_services_stay_until_their_users_say_so() -> None:
    async def before(client: Client) -> None:
        await client.create(SERVICES, service("s", ipFamilyPolicy="PreferDualStack"))
        with pytest.raises(Invalid, match="this cluster is not configured for dual-stack services"):
            await client.create(SERVICES, service("t", ipFamilyPolicy="RequireDualStack"))

    async def after(client: Client) -> None:
        default = await client.get(SERVICE_CIDRS, "kubernetes")
        assert default["spec"]["cidrs"] == DUAL.split(",")
        touched = await client.patch(SERVICES, "s", {"metadata": {"labels": {"x": "y"}}}, NS, type=MERGE_PATCH)
        assert touched["spec"]["ipFamilies"] == ["IPv4"]
        assert len((await change(client, "s", ipFamilyPolicy="RequireDualStack"))["clusterIPs"]) == 2

    async def scenario(world: World) -> None:
        await world.serve(DUAL.partition(",")[0], before)
        await world.serve(DUAL, after)

    play(scenario)


def test_ranges_of_another_default_service_cidr_are_left_to_its_owner() -> None:
    async def look(client: Client) -> None:
        assert (await client.get(SERVICE_CIDRS, "kubernetes"))["spec"]["cidrs"] == ["10.96.0.0/28"]

    async def scenario(world: World) -> None:
        await world.serve("10.96.0.0/28", look)
        await world.serve("10.97.0.0/28,fd00:1::/112", look)

    play(scenario)


def test_the_api_servers_own_service_comes_back_when_it_is_deleted_or_changed() -> None:
    async def scenario(world: World) -> None:
        async def inside(client: Client) -> None:
            for resource in (SERVICES, ENDPOINTS, ENDPOINT_SLICES):
                found: Object = await client.get(resource, "kubernetes", NS)
                await client.delete(resource, "kubernetes", NS)
                await world.clock.sleep(1)
                again = await client.get(resource, "kubernetes", NS)
                assert again["metadata"]["uid"] != found["metadata"]["uid"]
            await client.patch(ENDPOINTS, "kubernetes", {"subsets": []}, NS, type=MERGE_PATCH)
            await world.clock.sleep(11)
            assert (await client.get(ENDPOINTS, "kubernetes", NS))["subsets"]
            with pytest.raises(NotFound):
                await client.get(SERVICES, "other", NS)

        await world.serve(DUAL, inside)

    play(scenario)
