"""Ports of a node that lead to pods, in real namespaces of both IP versions and without containers."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from e2e.runtime.links import Pod, families, nodes, pod
from tiphys.base.nftables import Nftables
from tiphys.runtime import netns
from tiphys.runtime.connectivity import PortMapping
from tiphys.runtime.hostports import TABLE
from tiphys.runtime.network import hardware_address
from tiphys.runtime.node import NodeNetwork
from tiphys.runtime.types import SandboxSpec, SandboxStatus, State

__all__ = ["families", "nodes", "pod"]
pytestmark = pytest.mark.e2e

HOST = "/proc/self/ns/net"


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextmanager
def answering(pod: Pod, name: str, port: int) -> Iterator[None]:
    """Whoever speaks to the pod, by TCP or UDP, is told its name and who the pod thinks it is."""
    stopped, stop = socket.socketpair()
    with ExitStack() as stack:
        servers: list[socket.socket] = []
        for address in pod[1]:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                server = stack.enter_context(netns.socket_in(pod[0], family_of(address), kind))
                server.bind((address, port))
                servers.append(server)
                if kind == socket.SOCK_STREAM:
                    server.listen()

        def serve() -> None:
            while stopped not in (ready := select.select([stopped, *servers], [], [])[0]):
                for server in ready:
                    if server.type == socket.SOCK_STREAM:
                        connection, peer = server.accept()
                        with connection:
                            connection.sendall(f"{name} {peer[0]}".encode())
                    else:
                        peer = server.recvfrom(16)[1]
                        server.sendto(f"{name} {peer[0]}".encode(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stop.close()
            thread.join()
            stopped.close()


def ask(namespace: str, address: str, port: int, kind: int = socket.SOCK_STREAM, source: str = "") -> str:
    """ "" when nobody answers."""
    with netns.socket_in(namespace, family_of(address), kind) as client:
        client.settimeout(3)  # a first packet that gets lost is sent again after a second
        if source:
            client.bind((source, 0))
        try:
            client.connect((address, port))
            client.send(b"who") if kind == socket.SOCK_DGRAM else None
            return client.recv(100).decode()
        except OSError:
            return ""


def web(port: int, host_address: str = "", protocol: str = "tcp") -> PortMapping:
    return PortMapping(protocol, port, 8080, host_address)


def test_each_address_of_the_node_leads_to_the_pod(nodes: list[NodeNetwork], pod: Callable[..., Pod]) -> None:
    node = nodes[0]
    one, other, far = pod("one", 0, ports=(web(80), web(80, "", "udp"))), pod("other", 0), pod("far", 1)
    with answering(one, "one", 8080):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for number, address in enumerate(node.addresses):
                for source, seen in (
                    (HOST, node.cluster.gateways[number]),
                    (nodes[1].namespace, nodes[1].addresses[number]),
                    (other[0], other[1][number]),
                    (far[0], far[1][number]),
                ):
                    assert ask(source, address, 80, kind) == f"one {seen}"
                assert ask(node.namespace, address, 80, kind).startswith("one ")
                assert ask(one[0], address, 80, kind).startswith("one "), "a pod reaches itself by its node's port"
                # The kernel leads nothing from ::1 elsewhere, so there the client has to say who it is.
                localhost, source = ("::1", address) if ":" in address else ("127.0.0.1", "")
                assert ask(node.namespace, localhost, 80, kind, source).startswith("one ")
        assert ask(HOST, node.addresses[0], 81) == ""


def test_the_same_port_of_other_addresses_and_protocols_leads_elsewhere(
    nodes: list[NodeNetwork], pod: Callable[..., Pod]
) -> None:
    node = nodes[0]
    address = node.addresses[0]
    localhost = "::1" if ":" in address else "127.0.0.1"
    pods = {
        "local": pod("local", 0, ports=(web(5432, localhost),)),
        "tcp": pod("tcp", 0, ports=(web(5432, address),)),
        "udp": pod("udp", 0, ports=(web(5432, address, "udp"),)),
    }
    with ExitStack() as stack:
        for name, each in pods.items():
            stack.enter_context(answering(each, name, 8080))
        assert ask(node.namespace, localhost, 5432, source=address).startswith("local ")
        assert ask(node.namespace, address, 5432).startswith("tcp ")
        assert ask(node.namespace, address, 5432, socket.SOCK_DGRAM).startswith("udp ")
        assert ask(HOST, address, 5432).startswith("tcp ")


@pytest.mark.parametrize("families", ["ipv4"], indirect=True)
def test_only_the_node_itself_uses_its_loopback_address(nodes: list[NodeNetwork], pod: Callable[..., Pod]) -> None:
    """No pod reaches what listens on 127.0.0.1 of its node, whatever frames it makes (CVE-2020-8558)."""
    node, bad = nodes[0], pod("bad", 0, ports=(web(80),))
    gateway = ip_network(node.pod_cidrs[0])[1]
    datagram = struct.pack(">HHHH", 9, 8000, 12, 0) + b"evil"
    with netns.socket_in(node.namespace, socket.AF_INET, socket.SOCK_DGRAM) as secret:
        secret.bind(("127.0.0.1", 8000))
        secret.settimeout(0.3)
        for source in (bad[1][0], "127.0.0.1"):
            send_frame(bad[0], hardware_address(str(gateway)), packet(source, "127.0.0.1", datagram))
            with pytest.raises(TimeoutError):
                secret.recv(16)
        with Nftables(lambda work: netns.inside(node.namespace, work)) as firewall:
            firewall.run(f"flush chain inet {TABLE} guard")
        send_frame(bad[0], hardware_address(str(gateway)), packet(bad[1][0], "127.0.0.1", datagram))
        assert secret.recv(16) == b"evil", "this test would not notice"


def packet(source: str, destination: str, datagram: bytes) -> bytes:
    """IPv4, UDP."""
    head = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17)
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(struct.unpack(">9H", head + ends))
    total = (total & 0xFFFF) + (total >> 16)
    return head + struct.pack(">H", 0xFFFF & ~((total & 0xFFFF) + (total >> 16))) + ends + datagram


def send_frame(namespace: str, hardware: bytes, content: bytes) -> None:
    with netns.inside(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
        wire.bind(("eth0", 0))
        wire.send(hardware + b"\x02\0\0\0\0\x07\x08\x00" + content)


def test_a_port_ends_with_its_pod_and_its_clients_are_led_elsewhere(nodes: list[NodeNetwork], tmp_path: Path) -> None:
    node = nodes[0]
    network = node.pod_network(tmp_path / "own")
    spaces = [tmp_path / "first", tmp_path / "second"]
    ports = (web(53, "", "udp"), web(53))

    async def main() -> None:
        address = node.addresses[0]
        with netns.socket_in(HOST, family_of(address), socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.connect((address, 53))
            client.send(b"nobody there yet")
            for space in spaces:
                netns.persist(space)
                pod = str(space), await network.attach(SandboxSpec(space.name, ports=ports), str(space))
                with answering(pod, space.name, 8080):
                    answer = ""
                    while not answer:
                        try:
                            client.send(b"who")
                            answer = (await asyncio.to_thread(client.recv, 100)).decode()
                        except ConnectionRefusedError:
                            continue
                    assert answer.startswith(space.name)
                    await network.detach(space.name)
                    await network.detach(space.name)
                    assert ask(HOST, address, 53) == ""
        assert not tables(node)

    try:
        asyncio.run(main())
    finally:
        for space in spaces:
            netns.drop(space)


def tables(node: NodeNetwork) -> list[str]:
    with Nftables(lambda work: netns.inside(node.namespace, work)) as firewall:
        return [line for line in firewall.run("list tables").splitlines() if TABLE in line]


def test_ports_of_sandboxes_that_are_gone_are_closed_at_the_start(
    nodes: list[NodeNetwork], pod: Callable[..., Pod], tmp_path: Path
) -> None:
    node = nodes[0]
    here = {name: pod(name, 0, ports=(web(port),)) for name, port in (("stays", 80), ("gone", 81), ("dead", 82))}
    statuses = [
        SandboxStatus(SandboxSpec(name, ports=(web(port),)), state, here[name][1])
        for name, port, state in (("stays", 80, State.RUNNING), ("dead", 82, State.EXITED))
    ]
    again = node.pod_network(tmp_path / "addresses0")
    asyncio.run(again.keep(statuses))
    with answering(here["stays"], "stays", 8080), answering(here["gone"], "gone", 8080):
        assert ask(HOST, node.addresses[0], 80).startswith("stays")
        assert ask(HOST, node.addresses[0], 81) == ask(HOST, node.addresses[0], 82) == ""
    asyncio.run(again.keep([]))
    assert not tables(node)
