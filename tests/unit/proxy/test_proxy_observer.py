"""What follows from a sync of the Services' proxy: connections, health check ports, health, metrics."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from tiphys.base.clock import SystemClock, rfc3339_micro
from tiphys.base.conntrack import Conntrack
from tiphys.base.metrics import Registry
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.types import Client
from tiphys.proxy.conntrack.stale import UdpPort
from tiphys.proxy.metrics import ProxyMetrics
from tiphys.proxy.observer import TRIGGERED, Node, ProxyObserver
from tiphys.proxy.services.facts import Endpoint, ServicePort
from tiphys.proxy.services.state import PortState, ServiceState, Sync
from tiphys.proxy.services.topology import Usable

HERE, THERE = Endpoint("10.1.0.1", 53, node="n1"), Endpoint("10.1.1.1", 53, serving=False, ready=False, node="n2")


def port(protocol: str = "udp", *, endpoints: tuple[Endpoint, ...] = (HERE, THERE), **more: Any) -> PortState:
    made = ServicePort("ns/dns", "", protocol, "10.96.0.10", 53, node_port=30053, **more)
    here = tuple(one for one in endpoints if one.node == "n1")
    return PortState("IPv4", made, endpoints, Usable(endpoints, here, bool(endpoints)))


class World:
    """An observer whose informers say what the test says."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.informers = InformerFactory(cast(Client, None), self.clock)
        self.listening: list[int] = []
        self.observer = ProxyObserver(
            Node("n1"), self.informers, self.clock, ProxyMetrics(Registry()), self._no_conntrack, self._listen
        )
        self.services: dict[str, ServiceState] = {}

    def _no_conntrack(self) -> Conntrack:
        raise OSError(1, "no connections here")

    def _listen(self, wanted: int) -> list[socket.socket]:
        self.listening.append(wanted)
        return [socket.create_server(("127.0.0.1", 0))]

    def sync(self, state: ServiceState | None, key: str = "ns/dns", error: str = "") -> None:
        before = self.services.pop(key, None)
        if state is not None:
            self.services[key] = state
        changed = {} if error else {key: (before, state)}
        self.observer.synced(Sync(False, 0.002, 1, changed, error), self.services)

    @property
    def metrics(self) -> str:
        return self.observer.metrics.registry.render().decode()

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self.observer.run())
                await asyncio.sleep(0)  # noqa: TID251 - lets it subscribe
                await scenario
                running.cancel()

        asyncio.run(main())


@pytest.fixture
def world() -> World:
    return World()


def test_serving_endpoints_of_udp_ports_keep_their_connections(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[tuple[Any, ...]] = []
    cleaner = world.observer._cleaners["IPv4"]
    monkeypatch.setattr(cleaner, "put", lambda *args: put.append(args))
    world.sync(ServiceState("ns/dns", (port("tcp"), port(external_ips=("1.2.3.4",)))))
    world.sync(None)
    ready = UdpPort(("10.96.0.10", "1.2.3.4"), 53, 30053, frozenset({("10.1.0.1", 53)}))
    assert put == [("ns/dns", (ready,)), ("ns/dns", ())]


def test_health_check_ports_follow_their_services(world: World) -> None:
    async def scenario() -> None:
        world.sync(ServiceState("ns/dns", (), health_check_port=32100, local_ready=2))
        world.sync(ServiceState("ns/dns", (), health_check_port=32100, local_ready=3))
        world.sync(ServiceState("ns/web", ()), "ns/web")
        assert world.listening == [32100]
        ports = world.observer._ports
        assert ports is not None
        assert ports.answer(("ns", "dns")).headers["X-Load-Balancing-Endpoint-Weight"] == "3"
        world.sync(None)
        assert ports.answer(("ns", "dns")).status == 503

    world.play(scenario())


def test_a_change_is_pending_until_it_is_in_the_kernel(world: World) -> None:
    async def scenario() -> None:
        world.sync(None, "first")
        moment = rfc3339_micro(world.clock.time())
        made = {"metadata": {"name": "dns-1", "namespace": "ns", "annotations": {TRIGGERED: moment}}}
        world.informers.get(ENDPOINT_SLICES)._put(made)
        world.informers.get(SERVICES)._put({"metadata": {"name": "dns", "namespace": "ns"}})
        assert "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1\n" in world.metrics
        later = world.clock.time() + 61
        assert not world.observer.health.healthy(later)
        world.sync(None, error="refused")
        assert not world.observer.health.healthy(later)
        assert 'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1\n' in world.metrics
        world.sync(ServiceState("ns/dns", (port(),)))
        assert world.observer.health.healthy(later)
        assert "kubeproxy_sync_proxy_rules_service_changes_pending 0\n" in world.metrics
        assert 'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1\n' in world.metrics

    world.play(scenario())


def test_the_node_decides_about_traffic(world: World) -> None:
    async def scenario() -> None:
        assert not world.observer.health.eligible
        nodes = world.informers.get(NODES, fields="metadata.name=n1")
        nodes._put({"metadata": {"name": "n1"}, "spec": {}})
        assert world.observer.health.eligible
        nodes._remove("n1", None)
        assert not world.observer.health.eligible

    world.play(scenario())


def test_ports_whose_policy_is_local_without_an_endpoint_here_are_counted(world: World) -> None:
    def counted(policy: str) -> bool:
        name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
        return f'{name}{{traffic_policy="{policy}",ip_family="IPv4"}} 1\n' in world.metrics

    elsewhere = port(endpoints=(THERE,), internal_local=True, external_local=True)
    world.sync(ServiceState("ns/dns", (elsewhere,)))
    assert (counted("internal"), counted("external")) == (True, True)
    world.sync(ServiceState("ns/dns", (port(internal_local=True, external_local=True),)))
    assert (counted("internal"), counted("external")) == (False, False)
    world.sync(ServiceState("ns/dns", (port(endpoints=(), internal_local=True),)))
    assert not counted("internal")
