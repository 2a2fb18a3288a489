"""The Service proxy against the real API server, with a firewall that only notes what it is told."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tiphys.base.errors import NotFound
from tiphys.base.nftables import Nftables, NftablesError
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES
from tiphys.client.types import Client, Listing, Resource
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.proxy import SWEEP, ServiceProxy
from tiphys.proxy.services.state import ServiceState, Sync
from tiphys.testing.clock import VirtualClock, run
from tiphys.testing.cluster import Cluster

CONFIG = ProxyConfig(node="node-1", local_pods=("10.1.1.0/24",))


class Firewall:
    """Stands for Nftables: an empty kernel that notes each transaction, and fails when told to."""

    def __init__(self) -> None:
        self.transactions: list[str] = []
        self.failures: list[Exception] = []
        self.closed = False

    def run(self, commands: str) -> str:
        if self.failures:
            raise self.failures.pop(0)
        self.transactions.append(commands)
        return ""

    def list_json(self, command: str) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        self.closed = True


class Watcher:
    """An Observer that can be waited for."""

    def __init__(self) -> None:
        self.syncs: list[Sync] = []
        self.services: dict[str, ServiceState] = {}
        self._told = asyncio.Event()

    def synced(self, sync: Sync, services: Mapping[str, ServiceState]) -> None:
        self.syncs.append(sync)
        self.services = dict(services)
        self._told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._told.clear()
            await self._told.wait()


class World:
    def __init__(self, clock: VirtualClock, cluster: Cluster, firewall: Firewall, watcher: Watcher) -> None:
        self.clock, self.cluster, self.firewall, self.watcher = clock, cluster, firewall, watcher

    async def service(self, name: str = "web", address: str = "10.1.1.2", **spec: Any) -> None:
        """A Service with one endpoint."""
        ports = [{"name": "http", "port": 80}]
        body = {"ports": ports, **spec}
        client = self.cluster.client
        await client.create(SERVICES, {"metadata": {"name": name, "namespace": "default"}, "spec": body})
        await self.slice(name, address)

    async def slice(self, name: str, address: str, **endpoint: Any) -> None:
        labels = {"kubernetes.io/service-name": name}
        meta = {"name": f"{name}-{address.rpartition('.')[2]}", "namespace": "default", "labels": labels}
        endpoints = [{"addresses": [address], "conditions": {"ready": True}, **endpoint}]
        body = {
            "metadata": meta,
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": endpoints,
        }
        await self.cluster.client.create(ENDPOINT_SLICES, body)

    async def label_node(self, label: str, value: str) -> None:
        node = await self.cluster.client.get(NODES, "node-1")
        meta = {**node["metadata"], "labels": {**node["metadata"].get("labels", {}), label: value}}
        await self.cluster.client.update(NODES, {**node, "metadata": meta})

    def endpoints(self, name: str = "web") -> list[str]:
        state = self.watcher.services.get(f"default/{name}")
        return [each.address for each in state.ports[0].usable.cluster] if state else []

    async def until_endpoints(self, *addresses: str, name: str = "web") -> None:
        await self.watcher.until(lambda: self.endpoints(name) == [*addresses])


@asynccontextmanager
async def world(clock: VirtualClock, before: Callable[[World], Awaitable[None]] | None = None) -> AsyncIterator[World]:
    firewall, watcher = Firewall(), Watcher()
    async with Cluster(clock, nodes=0, controllers="") as cluster:
        made = World(clock, cluster, firewall, watcher)
        await cluster.client.create(NODES, {"metadata": {"name": "node-1"}})
        if before is not None:
            await before(made)
        async with InformerFactory(cluster.client, clock) as informers:
            proxy = ServiceProxy(informers, clock, CONFIG, lambda: cast(Nftables, firewall), [watcher], None)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(proxy.run())
                await watcher.until(lambda: bool(watcher.syncs))
                yield made
                running.cancel()
        assert firewall.closed


def scenario(
    body: Callable[[World], Awaitable[None]], before: Callable[[World], Awaitable[None]] | None = None
) -> None:
    clock = VirtualClock()

    async def whole() -> None:
        async with world(clock, before) as made:
            await body(made)

    clock.run(whole())
    clock.close()


def test_what_is_there_at_the_start_is_one_transaction() -> None:
    async def before(made: World) -> None:
        for number in range(5):
            await made.service(f"web-{number}")

    async def body(made: World) -> None:
        (first,) = made.watcher.syncs
        assert first.full
        assert {f"default/web-{number}" for number in range(5)} <= first.changed.keys()
        assert len(made.firewall.transactions) == 1

    scenario(body, before)


def test_a_change_goes_to_the_kernel_at_once() -> None:
    async def body(made: World) -> None:
        started = made.clock.monotonic()
        await made.service()
        await made.until_endpoints("10.1.1.2")
        await made.slice("web", "10.1.1.3")
        await made.until_endpoints("10.1.1.2", "10.1.1.3")
        assert made.clock.monotonic() == started
        last = made.watcher.syncs[-1]
        assert not last.full
        assert "dnat to 10.1.1.3:8080" in made.firewall.transactions[-1]
        (before, after) = last.changed["default/web"]
        assert before is not None
        assert after is not None
        assert [len(state.ports[0].endpoints) for state in (before, after)] == [1, 2]

    scenario(body)


def test_a_deleted_service_goes() -> None:
    async def body(made: World) -> None:
        await made.service()
        await made.until_endpoints("10.1.1.2")
        await made.cluster.client.delete(SERVICES, "web", "default")
        await made.watcher.until(lambda: "default/web" not in made.watcher.services)
        assert made.watcher.syncs[-1].changed["default/web"][1] is None
        assert "delete element ip tiphys-services service-ips" in made.firewall.transactions[-1]

    scenario(body)


def test_chains_that_nobody_uses_go_after_a_quiet_moment() -> None:
    async def body(made: World) -> None:
        await made.service()
        await made.until_endpoints("10.1.1.2")
        await made.slice("web", "10.1.1.3")
        await made.until_endpoints("10.1.1.2", "10.1.1.3")
        assert "delete chain" not in made.firewall.transactions[-1]
        await made.clock.sleep(SWEEP * 2)
        assert "delete chain ip tiphys-services cluster-" in made.firewall.transactions[-1]
        count = len(made.firewall.transactions)
        await made.clock.sleep(3600)
        assert len(made.firewall.transactions) == count

    scenario(body)


def test_after_a_failure_everything_is_compared_and_tried_again() -> None:
    async def body(made: World) -> None:
        error = NftablesError(errno.EBUSY, "nftables: busy")
        made.firewall.failures = [error] * 3
        await made.service()
        await made.until_endpoints("10.1.1.2")
        await made.watcher.until(lambda: not made.watcher.syncs[-1].error)
        errors = [sync.error for sync in made.watcher.syncs]
        assert "nftables: busy" in errors
        assert made.watcher.syncs[-1].full
        assert made.watcher.syncs[-1].changed["default/web"][0] is None

    scenario(body)


def test_faults_of_ours_and_of_observers_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def body(made: World) -> None:
        def broken(sync: Sync, services: Mapping[str, ServiceState]) -> None:
            synced(sync, services)
            raise RuntimeError("a broken observer")

        synced = made.watcher.synced
        made.watcher.synced = broken  # type: ignore[method-assign]
        made.firewall.failures = [ZeroDivisionError("a bug")]
        await made.service()
        await made.until_endpoints("10.1.1.2")
        await made.watcher.until(lambda: not made.watcher.syncs[-1].error)
        assert {"a bug", "a broken observer"} <= {str(one.exc_info[1]) for one in caplog.records if one.exc_info}

    scenario(body)


def test_a_node_that_is_told_its_zone_uses_the_endpoints_there() -> None:
    async def body(made: World) -> None:
        await made.service()
        await made.cluster.client.delete(ENDPOINT_SLICES, "web-2", "default")
        for number, zone in ((3, "a"), (4, "b")):
            await made.slice("web", f"10.1.1.{number}", hints={"forZones": [{"name": zone}]}, zone=zone)
        await made.until_endpoints("10.1.1.3", "10.1.1.4")
        await made.label_node("topology.kubernetes.io/zone", "b")
        await made.until_endpoints("10.1.1.4")

    scenario(body)


def test_changes_of_the_node_that_mean_nothing_here_change_nothing() -> None:
    async def body(made: World) -> None:
        await made.service()
        await made.until_endpoints("10.1.1.2")
        count = len(made.watcher.syncs)
        await made.label_node("other", "b")
        await made.clock.sleep(5)
        assert len(made.watcher.syncs) == count

    scenario(body)


class OlderApi:
    """A Client of an API server that has no ServiceCIDRs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def list(self, resource: Resource, *words: Any, **options: Any) -> Listing:
        if resource == SERVICE_CIDRS:
            raise NotFound("the server could not find the requested resource")
        return await self._client.list(resource, *words, **options)


def test_an_api_server_without_service_ranges_is_good_enough() -> None:
    async def body() -> None:
        clock, watcher, firewall = VirtualClock(), Watcher(), Firewall()
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            older = cast(Client, OlderApi(cluster.client))
            async with InformerFactory(older, clock) as informers, asyncio.TaskGroup() as tasks:
                proxy = ServiceProxy(informers, clock, ProxyConfig(), lambda: cast(Nftables, firewall), [watcher], None)
                running = tasks.create_task(proxy.run())
                await watcher.until(lambda: "default/kubernetes" in watcher.services)
                running.cancel()

    run(body())


def test_without_the_library_it_says_so_and_ends() -> None:
    async def body() -> None:
        clock = VirtualClock()
        watcher = Watcher()

        def missing() -> Nftables:
            raise NftablesError(errno.ENOPKG, "libnftables.so.1 is missing: install the package libnftables1")

        async with (
            Cluster(clock, nodes=0, controllers="") as cluster,
            InformerFactory(cluster.client, clock) as informers,
        ):
            await ServiceProxy(informers, clock, ProxyConfig(), missing, [watcher], None).run()
        assert "libnftables1" in watcher.syncs[-1].error

    run(body())
