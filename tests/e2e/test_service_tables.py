"""The Service proxy's tables and what others do to them: other processes, versions, and people with nft."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.service_network import (
    CONFIG,
    GATEWAY,
    NODE,
    NODE_INSIDE,
    REFUSED,
    Machine,
    Rules,
    ask,
    endpoints,
    machine,
    service,
)
from tiphys.client.informer import InformerFactory
from tiphys.proxy.services.facts import IPV4
from tiphys.proxy.services.layout import SERVICE_IPS
from tiphys.proxy.services.proxy import ServiceProxy
from tiphys.proxy.services.rules import Rules as Bad
from tiphys.proxy.services.state import ServiceState, Sync
from tiphys.proxy.services.topology import Place
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

pytestmark = pytest.mark.e2e

VIP = "10.96.0.10"


class Told:
    """An Observer that can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def synced(self, sync: Sync, services: Mapping[str, ServiceState]) -> None:
        self._event.set()

    async def told(self) -> None:
        await self._event.wait()
        self._event.clear()


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def rules(net: Machine) -> Iterator[Rules]:
    made = Rules(net.nftables)
    yield made
    made.writer.close()


def test_another_process_changes_nothing_and_breaks_no_connection(net: Machine, rules: Rules) -> None:
    near = net.server()
    here, own = net.pod()
    clients = {"clientIP": {"timeoutSeconds": 60}}
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    full = service(
        ports=ports,
        type="LoadBalancer",
        externalIPs=["203.0.113.7"],
        ingress=[{"ip": "203.0.113.8"}],
        loadBalancerSourceRanges=["192.0.2.0/24", "10.0.0.0/8"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig=clients,
    )
    rules.put(full, endpoints(near, net.server(remote=True)))
    rules.put(service("empty", clusterIP="10.96.0.11"), name="empty")
    rules.put(None, name="web")
    rules.put(full, endpoints(near))
    before = net.nftables().run("list table ip tiphys-services")
    again = Rules(net.nftables)
    again.compiler.put("default/web", full, [endpoints(near)], Place("node-1"))
    again.compiler.put("default/empty", service("empty", clusterIP="10.96.0.11"), [], Place("node-1"))
    assert again.compare() == 0
    assert net.nftables().run("list table ip tiphys-services") == before
    again.sweep()
    assert again.compare() == 0
    assert ask(here, VIP, 80) == (near, own)


def test_what_somebody_else_did_to_the_table_is_put_right(net: Machine, rules: Rules) -> None:
    near = net.server()
    here, own = net.pod()
    rules.put(service(), endpoints(near))
    with net.nftables() as nft:
        nft.run(f"delete element ip tiphys-services service-ips {{ {VIP} . tcp . 80 }}")
    assert ask(here, VIP, 80) == (REFUSED, "")
    assert rules.compare() == 1
    assert ask(here, VIP, 80) == (near, own)
    with net.nftables() as nft:
        nft.run("flush ruleset")
    rules.compare()
    assert ask(here, VIP, 80) == (near, own)


def test_a_service_that_the_kernel_refuses_does_not_keep_others_out(
    net: Machine, rules: Rules, caplog: pytest.LogCaptureFixture
) -> None:
    near = net.server()
    here, own = net.pod()
    for number in range(20):
        rules.put(
            service(f"good-{number}", clusterIP=f"10.96.1.{number}"),
            endpoints(near, name=f"good-{number}"),
            name=f"good-{number}",
        )
    desired = rules.compiler.desired[IPV4]
    desired.put(
        "default/bad",
        Bad(
            chains={"cluster-bad": ("no such rule",)},
            elements={(SERVICE_IPS, "10.96.0.1 . tcp . 1"): "goto cluster-bad"},
        ),
    )
    rules.compare()
    assert "Service default/bad cannot be had" in caplog.text
    rules.put(service(), endpoints(near))
    assert ask(here, VIP, 80) == (near, own)
    assert {ask(here, f"10.96.1.{number}", 80) for number in range(20)} == {(near, own)}


def test_deleted_tables_are_put_back_at_once(net: Machine) -> None:
    async def scenario() -> None:
        api = Cluster(clock, nodes=0, controllers="")
        async with api as cluster, InformerFactory(cluster.client, clock) as informers:
            proxy = ServiceProxy(informers, clock, CONFIG, net.nftables, [watcher], net.watch)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(proxy.run())
                await watcher.told()
                with net.nftables() as nft:
                    assert "chain services" in nft.run("list table ip tiphys-services")
                    nft.run("flush ruleset")
                    await watcher.told()
                    assert "chain services" in nft.run("list table ip tiphys-services")
                running.cancel()

    watcher, clock = Told(), VirtualClock()
    clock.run(scenario())
    clock.close()


def test_a_table_of_another_layout_is_replaced_without_a_gap(net: Machine, rules: Rules) -> None:
    server, own = net.server(), net.pod()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    web = service(ports=ports, type="NodePort", sessionAffinity="ClientIP")
    rules.put(web, endpoints(server))
    assert ask(own[0], VIP, 80) == (server, own[1])
    other = Rules(net.nftables, replace(CONFIG, node_port_addresses=("192.0.2.0/24",), masquerade_all=True))
    other.compiler.put("default/web", web, [endpoints(server)], Place("node-1"))
    assert other.compare() > 50
    assert ask(own[0], VIP, 80) == (server, GATEWAY)
    assert ask(net.client, NODE_INSIDE, 30080) == (REFUSED, "")
    assert ask(net.client, NODE, 30080)[0] == server
    assert other.compare() == 0
