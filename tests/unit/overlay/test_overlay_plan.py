"""What the kernel must know of other machines, and how it comes to that."""

from __future__ import annotations

import random
from ipaddress import ip_network

import pytest

from tiphys.overlay.plan import difference, hardware_address, inner_mtu, wanted
from tiphys.overlay.types import HOST_ROUTES, NONE, VXLAN, Entries, Forward, Neighbour, Peer, Route, Settings

OURS = Settings(VXLAN, "192.168.0.1", sources=("10.0.1.1", "fd00:0:0:1::1"))
PEER = Peer("192.168.0.2", (ip_network("10.0.2.0/24"), ip_network("10.89.0.0/24"), ip_network("fd00:0:0:2::/64")))


def test_vxlan_has_a_machine_its_gateways_and_its_subnets() -> None:
    mac = hardware_address("192.168.0.2", 1)
    assert wanted(OURS, [PEER]) == Entries(
        frozenset({Forward(mac, "192.168.0.2")}),
        frozenset({Neighbour("10.0.2.0", mac), Neighbour("fd00:0:0:2::", mac)}),
        frozenset(
            {
                Route("10.0.2.0/24", "10.0.2.0", "10.0.1.1"),
                Route("10.89.0.0/24", "10.0.2.0", "10.0.1.1"),
                Route("fd00:0:0:2::/64", "fd00:0:0:2::", "fd00:0:0:1::1"),
            }
        ),
    )


def test_host_routes_lead_to_the_machine_itself_in_its_own_ip_version() -> None:
    settings = Settings(HOST_ROUTES, "192.168.0.1")
    routes = {Route("10.0.2.0/24", "192.168.0.2"), Route("10.89.0.0/24", "192.168.0.2")}
    assert wanted(settings, [PEER]) == Entries(routes=frozenset(routes))


def test_none_wants_nothing() -> None:
    assert wanted(Settings(NONE, "192.168.0.1"), [PEER]) == Entries()


def test_hardware_addresses_are_local_unicast_and_differ() -> None:
    found = {hardware_address(f"10.0.{i // 250}.{i % 250}", vni) for i in range(1000) for vni in (1, 2)}
    assert len(found) == 2000
    assert all(mac[0] == 2 and len(mac) == 6 for mac in found)
    assert hardware_address("fd00::1", 1) == hardware_address("fd00:0::1", 1)


@pytest.mark.parametrize(
    ("settings", "outer", "inner"),
    [
        (Settings(VXLAN, "192.168.0.1"), 1500, 1450),
        (Settings(VXLAN, "fd00::1"), 1500, 1430),
        (Settings(HOST_ROUTES, "192.168.0.1"), 1500, 1500),
        (Settings(VXLAN, "192.168.0.1"), 0, 0),
    ],
)
def test_pods_packets_have_room_for_what_is_added(settings: Settings, outer: int, inner: int) -> None:
    assert inner_mtu(settings, outer) == inner


def test_nothing_is_done_where_all_is_as_wanted() -> None:
    target = wanted(OURS, [PEER])
    assert not difference(target, target)


def test_a_machine_that_moved_is_replaced_and_not_removed() -> None:
    before, after = wanted(OURS, [PEER]), wanted(OURS, [Peer("192.168.0.7", PEER.subnets)])
    change = difference(before, after)
    assert change.removed.routes == frozenset()
    assert change.removed.neighbours == frozenset()
    assert change.removed.forwards == before.forwards
    assert change.added.forwards == after.forwards


def test_a_difference_applied_gives_the_target_from_anything() -> None:
    dice = random.Random(7)
    for _ in range(300):
        before, after = (wanted(OURS, _some_peers(dice)) for _ in range(2))
        change = difference(before, after)
        assert _applied(before, change.added, change.removed) == after


def _some_peers(dice: random.Random) -> list[Peer]:
    chosen = dice.sample(range(8), dice.randrange(8))
    return [Peer(f"192.168.0.{dice.randrange(2, 9)}", (ip_network(f"10.0.{i}.0/24"),)) for i in chosen]


def _applied(before: Entries, added: Entries, removed: Entries) -> Entries:
    """As the kernel does it: an entry of the same key is replaced."""
    forwards = {one.mac: one for one in (*before.forwards, *added.forwards) if one not in removed.forwards}
    neighbours = {one.address: one for one in (*before.neighbours, *added.neighbours) if one not in removed.neighbours}
    routes = {one.subnet: one for one in (*before.routes, *added.routes) if one not in removed.routes}
    return Entries(frozenset(forwards.values()), frozenset(neighbours.values()), frozenset(routes.values()))
