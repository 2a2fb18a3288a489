"""Node and pod networks of one machine, with real namespaces."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.netlink import Netlink
from tiphys.runtime import netns
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.node import (
    ClusterNetwork,
    NodeNetwork,
    setup_cluster_network,
    teardown_cluster_network,
)
from tiphys.runtime.types import RuntimeFailure, SandboxSpec

pytestmark = pytest.mark.e2e

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def host_devices() -> set[str]:
    with Netlink() as link:
        return set(link.links())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterNetwork]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    number = random.randrange(200, 250)
    nodes, pods = (f"10.{number}.0.0/24",), (f"10.{number}.128.0/17",)
    network = ClusterNetwork(f"tt{number}", nodes, pods, tmp_path / "net", "us")
    before = host_devices(), FORWARDING.read_text()
    assert setup_cluster_network(network) == []
    yield network
    assert teardown_cluster_network(network) == []
    assert teardown_cluster_network(network) == []
    devices = {name for name in host_devices() if name.startswith(network.bridge)}
    assert devices == set()
    # Others may hold forwarding meanwhile; alone, it is as before.
    assert FORWARDING.read_text() == before[1] or len(before[0]) != len(host_devices())


@pytest.fixture
def nodes(cluster: ClusterNetwork) -> Iterator[list[NodeNetwork]]:
    pods = list(IPv4Network(cluster.pods[0]).subnets(new_prefix=24))
    addresses = IPv4Network(cluster.nodes[0])
    found = [NodeNetwork(cluster, f"n{i}", (str(addresses[i + 2]),), (str(pods[i]),)) for i in range(2)]
    for node in found:
        assert node.setup() == []
        assert node.setup() == []
    yield found
    for node in found:
        assert node.teardown() == []
        assert node.teardown() == []


def runtimes(machine: Any, nodes: list[NodeNetwork]) -> list[LinuxRuntime]:
    return [
        LinuxRuntime(machine.root / node.name, machine.images, {"pods": node.pod_network(machine.root / node.name)})
        for node in nodes
    ]


async def serve(machine: Any, runtime: LinuxRuntime, id: str) -> str:
    """A sandbox with a web server that tells its name; returns its address."""
    parent = f"tiphys/{machine.name}/{id}"
    status = await runtime.create_sandbox(SandboxSpec(id, network="pods", hostname=id, cgroup_parent=parent))
    command = f"mkdir -p /www; echo {id} > /www/index.html; echo ready; exec httpd -f -h /www"
    await machine.start(runtime, "sh", "-c", command, id=f"{id}-web", sandbox=id)
    return status.ips[0]


def fetch(address: str) -> str:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            continue
    raise AssertionError(f"{address} does not answer")


def test_pods_are_reached_from_the_host_and_from_each_other(machine: Any, nodes: list[NodeNetwork]) -> None:
    async def main() -> None:
        first, second = runtimes(machine, nodes)
        async with first, second:
            names = {"a": first, "b": first, "c": second}
            addresses = {name: await serve(machine, runtime, name) for name, runtime in names.items()}
            for name, address in addresses.items():
                assert await asyncio.to_thread(fetch, address) == name
                for source, runtime in names.items():
                    got = await runtime.exec_sync(f"{source}-web", ["wget", "-q", "-O-", f"http://{address}/"], 5)
                    assert got.stdout.decode().strip() == name, (source, name, got)
            for name, runtime in names.items():
                await runtime.remove_sandbox(name)

    asyncio.run(main())
    _purge(machine, nodes)


def _purge(machine: Any, nodes: list[NodeNetwork]) -> None:
    from tiphys.runtime.cleanup import purge

    for node in nodes:
        assert purge(machine.root / node.name, node.name) == []


def test_addresses_have_one_owner(cluster: ClusterNetwork, nodes: list[NodeNetwork], tmp_path: Path) -> None:
    theirs = replace(cluster, owner="them", run_dir=tmp_path / "theirs")
    with pytest.raises(RuntimeFailure, match="are those of us: end that first"):
        setup_cluster_network(theirs)
    before = host_devices()
    node = NodeNetwork(theirs, nodes[0].name, nodes[0].addresses, nodes[0].pod_cidrs)
    assert node.teardown() == []
    assert teardown_cluster_network(theirs) == []
    assert host_devices() >= {name for name in before if name.startswith(cluster.bridge)}
    assert setup_cluster_network(cluster) == []


def test_dial_and_the_hosts_network(machine: Any, nodes: list[NodeNetwork]) -> None:
    async def main() -> None:
        (runtime,) = runtimes(machine, nodes[:1])
        async with runtime:
            await serve(machine, runtime, "a")
            while "ready" not in (machine.root / "a-web.log").read_text():
                await asyncio.sleep(0.01)  # noqa: TID251 - waits for a real process
            while True:
                try:
                    connection = await runtime.dial("a", 80)
                    break
                except RuntimeFailure:
                    await asyncio.sleep(0.01)  # noqa: TID251 - waits for a real process
            await connection.write(b"GET / HTTP/1.0\r\n\r\n")
            await connection.write_eof()
            assert b"200 OK" in await connection.read()
            await connection.close()
            with pytest.raises(RuntimeFailure, match="refused"):
                await runtime.dial("a", 81)
            await runtime.create_sandbox(SandboxSpec("host", network="host", cgroup_parent=f"tiphys/{machine.name}/h"))
            await machine.start(runtime, "sleep", "1000", id="on-host", sandbox="host")
            shown = await runtime.exec_sync("on-host", ["ip", "addr"], 5)
            assert nodes[0].address.encode() in shown.stdout
            for name in ("a", "host"):
                await runtime.remove_sandbox(name)

    asyncio.run(main())
    _purge(machine, nodes)


def test_a_socket_inside_a_namespace_is_reached_at_the_nodes_address(nodes: list[NodeNetwork]) -> None:
    listener = netns.socket_in(nodes[0].namespace)
    listener.bind(("0.0.0.0", 10250))
    listener.listen()
    with socket.create_connection((nodes[0].address, 10250), timeout=2), listener.accept()[0]:
        pass
    listener.close()


def test_packets_to_elsewhere_carry_the_hosts_address(nodes: list[NodeNetwork]) -> None:
    with Netlink() as link:
        names = {number: name for name, number in link.links().items()}
        default = [names[number] for prefix, number in link.routes() if prefix == "default"]
    if not default:
        pytest.skip("this machine has no default route")
    seen = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
    seen.bind((default[0], 0x0003))
    seen.settimeout(5)
    inside = netns.socket_in(nodes[0].namespace, socket.AF_INET, socket.SOCK_DGRAM)
    with seen, inside:
        inside.sendto(b"x", ("198.51.100.1", 9999))
        while True:
            packet = seen.recv(2048)
            if packet[9] == socket.IPPROTO_UDP and packet[16:20] == socket.inet_aton("198.51.100.1"):
                break
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.connect(("198.51.100.1", 9))
        assert socket.inet_ntoa(packet[12:16]) == ours.getsockname()[0]


def test_nobody_becomes_the_router_by_saying_so(cluster: ClusterNetwork, nodes: list[NodeNetwork]) -> None:
    """IPv6 router advertisements are for whoever may send raw packets (CVE-2020-10749)."""
    where = Path("/proc/sys/net/ipv6/conf")
    if not where.is_dir():
        pytest.skip("no IPv6")
    assert (where / cluster.bridge / "accept_ra").read_text().strip() == "0"

    def accepting() -> list[str]:
        return [device for device in ("eth0", "default") if (where / device / "accept_ra").read_text().strip() != "0"]

    assert netns.inside(nodes[0].namespace, accepting) == []
