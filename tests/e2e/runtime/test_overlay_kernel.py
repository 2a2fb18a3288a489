"""Two network namespaces as two machines: what the overlay writes into the kernel carries packets between them."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from tiphys.overlay.app import remove
from tiphys.overlay.links import OverlayLink
from tiphys.overlay.plan import difference, wanted
from tiphys.overlay.types import HOST_ROUTES, VXLAN, Entries, Peer, Settings
from tiphys.runtime import netns

pytestmark = pytest.mark.e2e

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
LIMIT = 5.0


class Machine:
    """A namespace with an address on a cable to the other one, and a subnet of its own."""

    def __init__(self, path: Path, number: int) -> None:
        netns.persist(path)
        self.path, self.number = str(path), number
        self.address, self.inner = f"192.168.77.{number}", f"10.77.{number}.1"
        self.peer = Peer(self.address, (ip_network(f"10.77.{number}.0/24"),))
        self.settings = Settings(VXLAN, self.address, mtu=1450, sources=(self.inner,), vni=77)

    def link(self) -> OverlayLink:
        return netns.inside(self.path, OverlayLink)

    def furnish(self) -> None:
        with self.link() as link:
            link.set_up(1)
            link.add_address(1, self.inner)
            device = link.index("eth0")
            link.add_address(device, f"{self.address}/24")
            link.set_up(device)

    def write(self, *peers: Peer, settings: Settings | None = None) -> Entries:
        used = settings or self.settings
        with self.link() as link:
            if used.mode == VXLAN:
                link.ensure_device(used)
            assert link.apply(used, difference(link.entries(used), wanted(used, peers))) == []
            return link.entries(used)

    def socket(self) -> socket.socket:
        opened = netns.socket_in(self.path, kind=socket.SOCK_DGRAM)
        opened.settimeout(LIMIT)
        return opened


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    paths = [Path(f"/run/tiphys-overlay-{os.getpid()}-{number}") for number in (1, 2)]
    try:
        one, two = (Machine(path, number) for number, path in enumerate(paths, 1))
        handle = os.open(two.path, os.O_RDONLY)
        with one.link() as link:
            link.add_veth("eth0", "eth0", handle)
        os.close(handle)
        one.furnish()
        two.furnish()
        yield one, two
    finally:
        for path in paths:
            netns.drop(path)


def carries(one: Machine, two: Machine, size: int) -> bool:
    """Whether a packet of that many bytes, headers included, gets from one inner address to the other undivided."""
    with one.socket() as sender, two.socket() as receiver:
        receiver.bind((two.inner, 0))
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        try:
            sender.sendto(b"x" * (size - 28), receiver.getsockname())
        except OSError:
            return False
        data, source = receiver.recvfrom(2000)
        assert source[0] == one.inner
        return len(data) == size - 28


def test_a_packet_of_full_size_passes_and_a_larger_one_is_refused_at_once(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write(two.peer)
    two.write(one.peer)
    assert carries(one, two, 1450)
    assert carries(two, one, 1450)
    assert not carries(one, two, 1451)


def test_writing_again_changes_nothing_and_a_gone_machine_is_forgotten(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    first = one.write(two.peer)
    with one.link() as link:
        index = link.index(one.settings.device)
    assert one.write(two.peer) == first == wanted(one.settings, [two.peer])
    with one.link() as link:
        assert link.index(one.settings.device) == index
    assert one.write() == Entries()


def test_a_machine_with_another_address_is_reached_there(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.write(replace(two.peer, address="192.168.77.9"))
    with two.link() as link:
        link.add_address(link.index("eth0"), "192.168.77.5/24")
    moved = replace(two.settings, address="192.168.77.5")
    two.write(one.peer)
    two.write(one.peer, settings=moved)
    one.write(replace(two.peer, address="192.168.77.5"))
    assert carries(one, two, 1450)


def test_host_routes_carry_packets_as_they_are(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for machine, other in ((one, two), (two, one)):
        machine.write(other.peer, settings=replace(machine.settings, mode=HOST_ROUTES))
    assert carries(one, two, 1500)


def test_machines_may_have_ipv6_addresses_only(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for machine, other in ((one, two), (two, one)):
        with machine.link() as link:
            link.add_address(link.index("eth0"), f"fd77::{machine.number}/64")
        settings = replace(machine.settings, address=f"fd77::{machine.number}", mtu=1430)
        machine.write(replace(other.peer, address=f"fd77::{other.number}"), settings=settings)
    assert carries(one, two, 1430)
    assert not carries(two, one, 1431)


def test_the_size_of_packets_of_an_address_is_that_of_its_device(machines: tuple[Machine, Machine]) -> None:
    with machines[0].link() as link:
        assert link.mtu_of("192.168.77.1") == 1500
        assert link.mtu_of("127.0.0.1") == 65536
        assert link.mtu_of("192.168.77.99") == 0


def test_nothing_stays_after_removal_and_others_routes_do(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    with one.link() as link:
        link.add_route("10.99.0.0/24", two.address)
        before = (link.links(), link.routes())
    one.write(two.peer)
    opened = functools.partial(netns.inside, one.path, OverlayLink)
    assert remove(one.settings, opened) == []
    assert remove(one.settings, opened) == []
    with one.link() as link:
        assert (link.links(), link.routes()) == before
