"""Pods' links of both IP versions, with real namespaces and no containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import islice
from pathlib import Path

import pytest

from e2e.runtime.links import Pod, families, listening, nodes, pod, spoken
from tiphys.base.netlink import Netlink
from tiphys.runtime import netns
from tiphys.runtime.node import OLD_BRIDGE, NodeNetwork, outgoing_mtu
from tiphys.runtime.types import SandboxSpec, SandboxStatus, State

__all__ = ["families", "nodes", "pod"]
pytestmark = pytest.mark.e2e


def test_addresses_come_in_the_families_order_and_are_reached_at_once(
    nodes: list[NodeNetwork], pod: Callable[..., Pod], families: str
) -> None:
    one, neighbour, far = pod("one", 0), pod("neighbour", 0), pod("far", 1)
    for each, node in ((one, nodes[0]), (far, nodes[1])):
        pairs = zip(each[1], node.pod_cidrs, strict=True)
        assert all(ip_address(address) in ip_network(cidr) for address, cidr in pairs)
    for number, address in enumerate(one[1]):
        with listening(one, address) as server:
            for source in (neighbour, far):
                with spoken(source[0], address):
                    assert server.recvfrom(16)[1][0] == source[1][number]
            with spoken(None, address):
                assert server.recvfrom(16)[1][0] == nodes[0].cluster.gateways[number]
            with spoken(nodes[0].namespace, address):
                assert server.recvfrom(16)[1][0] == nodes[0].addresses[number]
            with spoken(one[0], address):
                assert server.recvfrom(16)[1][0] == address


def test_an_address_that_no_pod_has_is_refused_at_once(pod: Callable[..., Pod], nodes: list[NodeNetwork]) -> None:
    space, _ = pod("one", 0)
    for cidr in nodes[0].pod_cidrs:
        target = str(ip_network(cidr)[99])
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with netns.socket_in(space, family) as connection:
            connection.settimeout(2)
            with pytest.raises(OSError, match=r"No route to host|unreachable"):
                connection.connect((target, 80))


def test_nobody_speaks_for_another(pod: Callable[..., Pod], nodes: list[NodeNetwork]) -> None:
    """Addresses that a pod gives itself are of no use, nor is answering for others."""
    bad, victim, server = pod("bad", 0), pod("victim", 0), pod("server", 1)
    elsewhere = ["198.51.100.7" if "." in address else "2001:db8::7" for address in bad[1]]
    with netns.netlink_in(bad[0]) as link:
        for address in (*victim[1], *nodes[0].addresses, *elsewhere):
            link.add_address(link.index("eth0"), address)
    for number, target in enumerate(server[1]):
        with listening(server, target) as arrived:
            for source in (victim[1][number], nodes[0].addresses[number], elsewhere[number]):
                with netns.socket_in(bad[0], arrived.family, socket.SOCK_DGRAM) as liar:
                    liar.bind((source, 0))
                    with contextlib.suppress(OSError):
                        liar.sendto(b"lie", (target, 7000))
            with spoken(victim[0], target):
                assert arrived.recvfrom(16)[0] == b"hello"
        with listening(victim, victim[1][number]) as arrived, spoken(server[0], victim[1][number]):
            assert arrived.recvfrom(16)[0] == b"hello"


def test_packets_on_the_wire_do_not_pass_by_the_nodes_ip_layer(pod: Callable[..., Pod]) -> None:
    """A frame to another pod's hardware address goes nowhere: there is no switch."""
    bad, victim = pod("bad", 0), pod("victim", 0)
    with netns.inside(bad[0], lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
        wire.bind(("eth0", 0))
        seen = netns.inside(victim[0], lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))
        with seen:
            seen.bind(("eth0", 0x0003))
            seen.settimeout(0.2)
            for destination in (b"\xff" * 6, b"\x0a\x58" + ip_address(victim[1][0]).packed[-4:]):
                wire.send(destination + b"\x02\0\0\0\0\x07" + struct.pack(">H", 0x88B5) + b"forged" * 10)
            with contextlib.suppress(TimeoutError):
                while True:
                    assert b"forged" not in seen.recv(2048)


def test_what_leaves_carries_the_hosts_address(
    nodes: list[NodeNetwork], pod: Callable[..., Pod], tmp_path: Path
) -> None:
    """Another machine, beyond a link of the host, sees the host, and its answers come back."""
    one = pod("one", 0)
    outside = tmp_path / "outside"
    netns.persist(outside)
    name = f"{nodes[0].cluster.bridge}o"
    try:
        with Netlink() as host, netns.netlink_in(str(outside)) as there:
            handle = os.open(outside, os.O_RDONLY)
            host.add_veth(name, "eth0", handle)
            os.close(handle)
            for link, last in ((host, 1), (there, 2)):
                link.set_up(1)
                device = link.index(name if last == 1 else "eth0")
                for prefix in (f"203.0.113.{last}/24", f"2001:db8:ffff::{last}/64"):
                    link.add_address(device, prefix)
                link.set_up(device)
        for address in one[1]:
            target, ours = (
                ("2001:db8:ffff::2", "2001:db8:ffff::1") if ":" in address else ("203.0.113.2", "203.0.113.1")
            )
            with listening((str(outside), ()), target) as server, spoken(one[0], target) as client:
                client.settimeout(2)
                source = server.recvfrom(16)[1]
                assert source[0] == ours
                server.sendto(b"answer", source)
                assert client.recv(16) == b"answer"
    finally:
        netns.drop(outside)
        with contextlib.suppress(OSError), Netlink() as host:
            host.delete_link(name)


@pytest.mark.parametrize("families", ["ipv4"], indirect=True)
def test_pods_of_an_earlier_version_go_on(nodes: list[NodeNetwork], pod: Callable[..., Pod], tmp_path: Path) -> None:
    """They are on a bridge of the node, which has their gateway's address."""
    node, old = nodes[0], tmp_path / "old"
    network = ip_network(node.pod_cidrs[0])
    address = str(network[100])
    netns.persist(old)
    try:
        with netns.netlink_in(node.namespace) as here, netns.netlink_in(str(old)) as there:
            here.add_bridge(OLD_BRIDGE)
            here.add_address(here.index(OLD_BRIDGE), f"{network[1]}/{network.prefixlen}")
            here.set_up(here.index(OLD_BRIDGE))
            handle = os.open(old, os.O_RDONLY)
            here.add_veth("vethold", "eth0", handle)
            os.close(handle)
            here.set_up(here.index("vethold"), here.index(OLD_BRIDGE))
            there.add_address(there.index("eth0"), f"{address}/{network.prefixlen}")
            there.set_up(there.index("eth0"))
            there.add_route("default", str(network[1]))
        assert node.setup() == []
        new = pod("new", 0)
        with listening((str(old), ()), address) as server:
            for source, seen in ((None, node.cluster.gateways[0]), (new[0], new[1][0])):
                with spoken(source, address):
                    assert server.recvfrom(16)[1][0] == seen
        with listening(new, new[1][0]) as server, spoken(str(old), new[1][0]):
            assert server.recvfrom(16)[1][0] == address
    finally:
        netns.drop(old)


@pytest.mark.parametrize("families", ["dual"], indirect=True)
def test_packets_are_as_large_as_the_machine_sends_them(nodes: list[NodeNetwork], tmp_path: Path) -> None:
    node, space = nodes[0], tmp_path / "pod"
    small = NodeNetwork(replace(node.cluster, mtu=1300), "small", *_third(node))
    netns.persist(space)
    try:
        assert small.setup() == []
        network = small.pod_network(tmp_path / "small")
        asyncio.run(network.attach(SandboxSpec("pod"), str(space)))
        with Netlink() as host, netns.netlink_in(str(space)) as inside:
            assert inside.mtu("eth0") == 1300
            with netns.netlink_in(node.namespace) as other:
                assert other.mtu("eth0") == (outgoing_mtu(host) or 1500)
    finally:
        netns.drop(space)
        assert small.teardown() == []


def _third(node: NodeNetwork) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Addresses and ranges that neither of the two nodes has."""
    spaces, pods = map(ip_network, node.cluster.nodes), map(ip_network, node.cluster.pods)
    cidrs = [str(next(islice(each.subnets(new_prefix=24 if each.version == 4 else 64), 9, None))) for each in pods]
    return tuple(str(each[9]) for each in spaces), tuple(cidrs)


def test_ways_to_pods_are_mended_at_the_start(
    nodes: list[NodeNetwork], pod: Callable[..., Pod], tmp_path: Path
) -> None:
    one = pod("one", 0)
    with netns.netlink_in(nodes[0].namespace) as link:
        for address in one[1]:
            link.delete_route(address)
    again = nodes[0].pod_network(tmp_path / "addresses0")
    asyncio.run(again.keep([SandboxStatus(SandboxSpec("one"), State.RUNNING, one[1])]))
    for address in one[1]:
        with listening(one, address) as server, spoken(None, address):
            server.recv(16)


def test_nodes_of_an_earlier_version_lose_no_way_to_their_pods(
    nodes: list[NodeNetwork], pod: Callable[..., Pod]
) -> None:
    """They had each other as neighbours, so that the host saw one direction only of what they said."""
    one, far = pod("one", 0), pod("far", 1)
    with netns.netlink_in(nodes[0].namespace) as link:
        device = link.index("eth0")
        for address, network in zip(nodes[0].addresses, nodes[0].cluster.nodes, strict=True):
            prefix = f"{address}/{ip_network(network).prefixlen}"
            if ":" in address:
                link.delete_address(device, address)
            link.add_address(device, prefix)
            with contextlib.suppress(OSError):
                link.delete_address(device, address)
    assert nodes[0].setup() == []
    for address in one[1]:
        with listening(one, address) as server, spoken(far[0], address):
            server.recv(16)
