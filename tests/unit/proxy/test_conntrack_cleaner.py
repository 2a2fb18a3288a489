"""Stale connections removed from a kernel: real UDP through a Service's address, in a namespace of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.conntrack import Conntrack, open_socket
from tiphys.base.metrics import Registry
from tiphys.base.nftables import Nftables
from tiphys.proxy.conntrack.cleaner import ConntrackCleaner
from tiphys.proxy.conntrack.stale import UdpPort
from tiphys.proxy.metrics import ProxyMetrics
from tiphys.runtime import netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")

SERVICE, FIRST, SECOND, NODE = "10.96.0.10", "127.0.1.1", "127.0.1.2", "127.0.0.77"
TABLE = """
add table ip t
add map ip t services { type ipv4_addr : ipv4_addr; }
add map ip t ports { type inet_service : ipv4_addr . inet_service; }
add chain ip t out { type nat hook output priority -100; }
add rule ip t out udp dport 53 dnat to ip daddr map @services
add rule ip t out udp dport 30053 dnat to udp dport map @ports
"""


class World:
    """A node with two endpoints, each answering with its name, and a client that keeps its port."""

    def __init__(self, namespace: str, nft: Nftables) -> None:
        self.namespace, self.nft = namespace, nft
        self.servers = {name: self._socket(name) for name in (FIRST, SECOND)}
        self.client = self._socket("127.0.0.1", 0)
        self.metrics = ProxyMetrics(Registry())
        self.opened = 0
        self.cleaner = ConntrackCleaner("IPv4", self._conntrack, SystemClock(), self.metrics, (NODE,))

    def _conntrack(self) -> Conntrack:
        self.opened += 1
        return Conntrack(lambda: netns.inside(self.namespace, open_socket))

    def _socket(self, address: str, port: int = 53) -> socket.socket:
        made = netns.socket_in(self.namespace, kind=socket.SOCK_DGRAM)
        made.bind((address, port))
        made.setblocking(False)
        return made

    def endpoints(self, *endpoints: str) -> int:
        """Program these endpoints; returns how many stale connections were removed."""
        for table, key, port in (("services", SERVICE, ""), ("ports", "30053", " . 53")):
            lead = f"add element ip t {table} {{ {key} : {endpoints[0]}{port} }}" if endpoints else ""
            self.nft.run(f"flush map ip t {table}; {lead}")
        self.cleaner.put("dns", (UdpPort((SERVICE,), 53, 30053, frozenset((one, 53) for one in endpoints)),))
        return asyncio.run(self.cleaner.clean())

    def asked(self, address: str = SERVICE, port: int = 53) -> str:
        """Which endpoint a packet of the client reaches; "" for none."""
        self.client.sendto(b"?", (address, port))
        for name, server in self.servers.items():
            try:
                server.recv(10)
            except BlockingIOError:
                continue
            return name
        return ""

    def close(self) -> None:
        for one in (*self.servers.values(), self.client):
            one.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "netns"
    netns.persist(path)
    netns.loopback_up(str(path))
    with netns.netlink_in(str(path)) as link:
        link.add_address(1, f"{SERVICE}/32")  # a way there, untranslated
    with Nftables(lambda work: netns.inside(str(path), work)) as nft:
        nft.run(TABLE)
        made = World(str(path), nft)
        yield made
        made.close()
    netns.drop(path)


def test_the_packets_of_a_client_follow_its_service(world: World) -> None:
    assert world.endpoints(FIRST) == 0
    assert world.asked() == FIRST
    assert world.endpoints(SECOND) == 1
    assert world.asked() == SECOND


def test_node_ports_follow_too(world: World) -> None:
    world.endpoints(FIRST)
    assert world.asked(NODE, 30053) == FIRST
    assert world.endpoints(SECOND) == 1
    assert world.asked(NODE, 30053) == SECOND


def test_a_client_that_asked_before_there_was_an_endpoint_reaches_the_first_one(world: World) -> None:
    assert world.endpoints() == 0
    assert world.asked() == ""
    assert world.endpoints(FIRST) == 1
    assert world.asked() == FIRST


def test_connections_to_endpoints_that_serve_stay(world: World) -> None:
    world.endpoints(FIRST)
    assert world.asked() == FIRST
    assert world.endpoints(SECOND, FIRST) == 0
    assert world.asked() == FIRST


def test_the_kernel_is_asked_only_after_a_change(world: World) -> None:
    world.endpoints(FIRST)
    world.endpoints(FIRST)
    assert world.opened == 1
    world.cleaner.put("dns", ())
    world.cleaner.put("other", ())
    assert (asyncio.run(world.cleaner.clean()), world.opened) == (0, 1)


def test_what_failed_is_tried_again_at_the_next_change(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Conntrack:
        raise OSError(errno.EPERM, "Operation not permitted")

    cleaner = ConntrackCleaner("IPv4", fail, SystemClock(), world.metrics)
    for name in ("dns", "other"):
        cleaner.put(name, (UdpPort((SERVICE,), 53, 0, frozenset({(SECOND, 53)})),))
        assert asyncio.run(cleaner.clean()) == 0
    assert caplog.text.count("stale connections of UDP Services stay for now (IPv4)") == 2


def test_it_is_counted(world: World) -> None:
    world.endpoints(FIRST)
    world.asked()
    world.endpoints(SECOND)
    told = world.metrics.registry.render().decode()
    assert 'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 1\n' in told
    assert 'kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 2\n' in told
