"""Every address of a Service has an IPAddress; ServiceCIDRs say where addresses come from."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.errors import AlreadyExists, InternalError, Invalid, NotFound
from tiphys.client.local import LocalClient
from tiphys.client.resources import IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from tiphys.client.types import MERGE_PATCH, Client, Object
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import ADMIN

NS = "default"


class World:
    """One API server at a time over one store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.store = clock, MemoryStore()

    async def serve(self, scenario: Callable[[Client], Coroutine[Any, Any, None]], cidr: str = "10.96.0.0/28") -> None:
        async with ApiServer(ApiServerConfig(service_cidr=cidr), self.store, self.clock) as server:
            await scenario(LocalClient(server.handler, ADMIN))


def play(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()
    try:
        clock.run(scenario(World(clock)))
    finally:
        clock.close()


def serving(scenario: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    play(lambda world: world.serve(scenario))


def service(name: str, **spec: Any) -> dict[str, Any]:
    wanted = {"ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": wanted}


def cidr(name: str, *cidrs: str) -> dict[str, Any]:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}
    return {**kind, "metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


def ip_address(ip: str, **parent: str) -> dict[str, Any]:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress"}
    reference = {"resource": "services", "namespace": NS, "name": "x", **parent}
    return {**kind, "metadata": {"name": ip}, "spec": {"parentRef": reference}}


async def addresses(client: Client) -> dict[str, str]:
    found = (await client.list(IP_ADDRESSES)).items
    return {each["metadata"]["name"]: each["spec"]["parentRef"]["name"] for each in found}


def ip_of(obj: Object) -> str:
    return str(obj["spec"]["clusterIP"])


def test_the_address_of_a_service_comes_and_goes_with_it() -> None:
    async def scenario(client: Client) -> None:
        made = await client.create(SERVICES, service("web"))
        held = await client.get(IP_ADDRESSES, ip_of(made))
        assert held["spec"] == {"parentRef": {"resource": "services", "namespace": NS, "name": "web"}}
        assert held["metadata"]["labels"] == {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }
        assert "generation" not in held["metadata"]
        assert await addresses(client) == {"10.96.0.1": "kubernetes", ip_of(made): "web"}
        await client.delete(SERVICES, "web", NS)
        assert await addresses(client) == {"10.96.0.1": "kubernetes"}

    serving(scenario)


def test_headless_and_external_services_have_none_and_a_change_of_type_follows() -> None:
    async def scenario(client: Client) -> None:
        await client.create(SERVICES, service("headless", clusterIP="None"))
        await client.create(SERVICES, service("out", type="ExternalName", externalName="example.com"))
        assert await addresses(client) == {"10.96.0.1": "kubernetes"}
        made = await client.patch(SERVICES, "out", {"spec": {"type": "ClusterIP"}}, NS, type=MERGE_PATCH)
        assert (await addresses(client))[ip_of(made)] == "out"
        back = {"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": None, "clusterIPs": None}}
        await client.patch(SERVICES, "out", back, NS, type=MERGE_PATCH)
        assert await addresses(client) == {"10.96.0.1": "kubernetes"}

    serving(scenario)


def test_a_service_whose_finalizers_end_late_keeps_its_address_until_then() -> None:
    async def scenario(client: Client) -> None:
        made = service("web")
        made["metadata"]["finalizers"] = ["example.com/wait"]
        ip = ip_of(await client.create(SERVICES, made))
        await client.delete(SERVICES, "web", NS)
        assert ip in await addresses(client)
        await client.patch(SERVICES, "web", {"metadata": {"finalizers": None}}, NS, type=MERGE_PATCH)
        assert ip not in await addresses(client)

    serving(scenario)


def test_what_is_not_created_leaves_no_address() -> None:
    async def scenario(client: Client) -> None:
        await client.create(SERVICES, service("web"))
        before = await addresses(client)
        with pytest.raises(AlreadyExists):
            await client.create(SERVICES, service("web"))
        with pytest.raises(Invalid):
            await client.create(SERVICES, service("bad", ports=[{"port": 70000}]))
        shown = await client.call("POST", f"/api/v1/namespaces/{NS}/services", service("dry"), dryRun="All")
        assert ip_of(shown) == "10.96.0.0"
        assert await addresses(client) == before

    serving(scenario)


def test_a_service_without_a_name_is_invalid() -> None:
    async def scenario(client: Client) -> None:
        nameless = {**service("x"), "metadata": {"namespace": NS}}
        with pytest.raises(Invalid, match="name or generateName is required"):
            await client.create(SERVICES, nameless)
        assert set((await addresses(client)).values()) == {"kubernetes"}

    serving(scenario)


def test_an_address_that_somebody_made_by_hand_is_taken() -> None:
    async def scenario(client: Client) -> None:
        await client.create(IP_ADDRESSES, ip_address("10.96.0.5"))
        with pytest.raises(Invalid, match=r"failed to allocate IP 10\.96\.0\.5: provided IP is already allocated"):
            await client.create(SERVICES, service("web", clusterIP="10.96.0.5"))
        given = [ip_of(await client.create(SERVICES, service(f"s{number}"))) for number in range(12)]
        assert sorted(given, key=lambda ip: int(ip.rpartition(".")[2])) == [
            f"10.96.0.{number}" for number in range(2, 15) if number != 5
        ]
        with pytest.raises(InternalError, match='failed to allocate a serviceIP for Service "more": range is full'):
            await client.create(SERVICES, service("more"))

    serving(scenario)


def test_a_further_service_cidr_gives_addresses_while_it_is_ready() -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(Invalid, match="the provided network does not match the current range"):
            await client.create(SERVICES, service("early", clusterIP="10.97.0.5"))
        await client.create(SERVICE_CIDRS, cidr("more", "10.97.0.0/28"))
        await client.create(SERVICES, service("asked", clusterIP="10.97.0.5"))
        for edge in ("10.97.0.0", "10.97.0.15"):
            with pytest.raises(Invalid, match="the provided network does not match the current range"):
                await client.create(SERVICES, service("edge", clusterIP=edge))
        given = [ip_of(await client.create(SERVICES, service(f"s{number}"))) for number in range(20)]
        assert sum(ip.startswith("10.97.0.") for ip in given) == 7
        false = {"type": "Ready", "status": "False", "reason": "Terminating", "message": "x"}
        false["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        patch = {"status": {"conditions": [false]}}
        await client.patch(SERVICE_CIDRS, "more", patch, type=MERGE_PATCH, subresource="status")
        with pytest.raises(Invalid, match="the provided network does not match the current range"):
            await client.create(SERVICES, service("late", clusterIP="10.97.0.14"))
        await client.delete(SERVICES, "asked", NS)
        with pytest.raises(NotFound):
            await client.get(IP_ADDRESSES, "10.97.0.5")

    serving(scenario)


def test_a_start_creates_missing_addresses_and_deletes_those_that_nobody_has() -> None:
    async def scenario(world: World) -> None:
        async def first(client: Client) -> None:
            await client.create(SERVICES, service("web", clusterIP="10.96.0.9"))
            await client.delete(IP_ADDRESSES, "10.96.0.9")
            leaked = ip_address("10.96.0.7")
            leaked["metadata"]["labels"] = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
            await client.create(IP_ADDRESSES, leaked)
            await client.create(IP_ADDRESSES, ip_address("10.96.0.8"))

        async def second(client: Client) -> None:
            await world.clock.sleep(1)
            assert (await addresses(client))["10.96.0.9"] == "web"
            assert "10.96.0.7" in await addresses(client)
            await world.clock.sleep(60)
            assert sorted(await addresses(client)) == ["10.96.0.1", "10.96.0.8", "10.96.0.9"]

        await world.serve(first)
        await world.serve(second)

    play(scenario)
