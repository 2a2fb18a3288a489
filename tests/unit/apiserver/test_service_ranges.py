"""ServiceCIDRs say from where Services get their addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tiphys.apiserver import codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Stored
from tiphys.apiserver.service_ranges import ServiceRanges, configured_networks, gives
from tiphys.store.types import Event, Row

CIDRS = Stored("networking.k8s.io", "servicecidrs", "ServiceCIDR", "networking.k8s.io/v1", False)


class World:
    def __init__(self, configured: str = "10.96.0.0/16") -> None:
        self.cache = ResourceCache(CIDRS)
        self.ranges = ServiceRanges(self.cache, configured)
        self.revision = 0

    def put(self, name: str, *cidrs: str, ready: str = "", **metadata: Any) -> None:
        self.revision += 1
        status = {"conditions": [{"type": "Ready", "status": ready}]} if ready else {}
        obj = {"metadata": {"name": name, **metadata}, "spec": {"cidrs": list(cidrs)}, "status": status}
        value = codec.encode(obj, "ServiceCIDR", "networking.k8s.io/v1")
        self.cache.apply(Event(Row(CIDRS.key("", name), value, self.revision, self.revision), None))

    def networks(self) -> list[str]:
        return [str(each) for each in self.ranges.networks()]


def test_the_configured_range_stands_for_the_default_one_until_it_is_there() -> None:
    world = World()
    assert world.networks() == ["10.96.0.0/16"]
    world.put("a", "10.100.0.0/24")
    assert world.networks() == ["10.96.0.0/16", "10.100.0.0/24"]
    world.put("kubernetes", "10.96.0.0/20", ready="True")
    assert world.networks() == ["10.96.0.0/20", "10.100.0.0/24"]


def test_what_is_not_ready_or_on_its_way_out_gives_nothing() -> None:
    world = World()
    world.put("kubernetes", "10.96.0.0/16", ready="False")
    world.put("gone", "10.100.0.0/24", ready="True", deletionTimestamp="2026-01-01T00:00:00Z")
    world.put("new", "10.101.0.0/24")
    world.put("same", "10.101.0.0/24", "fd00::/112")
    assert world.networks() == ["10.101.0.0/24"]


def test_the_configured_families_say_which_ranges_are_used() -> None:
    world = World("fd00::/112,10.96.0.0/16")
    assert world.ranges.families == ("IPv6", "IPv4")
    assert world.networks() == ["fd00::/112", "10.96.0.0/16"]
    world.put("kubernetes", "fd00::/112")
    world.put("more", "10.97.0.0/16", "fd01::/112")
    assert world.networks() == ["fd00::/112", "10.97.0.0/16", "fd01::/112"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.96.0.0/16,10.97.0.0/16", "must be of different IP family"),
        ("10.96.0.0/16,fd00::/112,fd01::/112", "must not contain more than two entries"),
        ("10.96.0.1/16", "has host bits set"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        configured_networks(text)


@pytest.mark.parametrize(
    ("network", "address", "given"),
    [
        ("10.0.0.0/30", "10.0.0.0", False),
        ("10.0.0.0/30", "10.0.0.1", True),
        ("10.0.0.0/30", "10.0.0.3", False),
        ("10.0.0.0/30", "10.0.0.4", False),
        ("fd00::/126", "fd00::", False),
        ("fd00::/126", "fd00::3", True),
        ("fd00::/126", "10.0.0.1", False),
    ],
)
def test_edges_of_ranges(network: str, address: str, given: bool) -> None:
    assert gives(ip_network(network), ip_address(address)) is given
