"""Cluster IPs and node ports are given out once and come back when their Service goes."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from tiphys.apiserver import codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Stored
from tiphys.apiserver.service_ranges import Network, configured_networks
from tiphys.apiserver.services import ServiceAddresses
from tiphys.base.errors import InternalError, Invalid
from tiphys.store.types import Event, Row

SERVICES = Stored("", "services", "Service", "v1", True)


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "protocol": "TCP"}]
    if address := spec.get("clusterIP"):
        spec.setdefault("clusterIPs", [address])
    return {"metadata": {"name": name, "namespace": "a"}, "spec": {"type": "ClusterIP", "ports": ports, **spec}}


class Fixed:
    """Ranges that stay."""

    def __init__(self, cidrs: str) -> None:
        self._networks = configured_networks(cidrs)
        self.families = tuple(f"IPv{network.version}" for network in self._networks)

    def networks(self) -> Sequence[Network]:
        return self._networks


class World:
    def __init__(self, cidrs: str = "10.96.0.0/16", ports: range = range(30000, 32768)) -> None:
        self.cache = ResourceCache(SERVICES)
        self.addresses = ServiceAddresses(self.cache, Fixed(cidrs), ports, {"10.96.0.1"})
        self.revision = 0

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        with self.addresses.reserving(obj, None, dry_run=False):
            self.store(obj, None)
        return obj

    def store(self, obj: dict[str, Any], previous: Row | None) -> None:
        self.revision += 1
        key = SERVICES.key("a", obj["metadata"]["name"])
        self.cache.apply(Event(Row(key, codec.encode(obj, "Service", "v1"), self.revision, self.revision), previous))

    def delete(self, obj: dict[str, Any]) -> None:
        self.revision += 1
        key = SERVICES.key("a", obj["metadata"]["name"])
        entry = self.cache.at(key)
        assert entry is not None
        old = Row(key, codec.encode(obj, "Service", "v1"), entry.revision, entry.created)
        self.cache.apply(Event(Row(key, b"", self.revision, entry.created), old, deleted=True))


def test_every_service_gets_an_address_of_its_own_from_the_upper_band() -> None:
    world = World()
    given = [world.create(service(f"s{number}"))["spec"]["clusterIP"] for number in range(200)]
    assert len(set(given)) == 200
    assert all(not ip.startswith("10.96.0.") for ip in given)


def test_an_address_that_somebody_has_is_refused_until_it_is_released() -> None:
    world = World()
    first = world.create(service("a", clusterIP="10.96.0.10"))
    with pytest.raises(Invalid, match=r"failed to allocate IP 10\.96\.0\.10: provided IP is already allocated"):
        world.create(service("b", clusterIP="10.96.0.10"))
    world.delete(first)
    world.create(service("c", clusterIP="10.96.0.10"))


def test_the_api_servers_own_address_is_kept_for_it() -> None:
    world = World()
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        world.create(service("b", clusterIP="10.96.0.1"))
    own = service("kubernetes", clusterIP="10.96.0.1")
    own["metadata"]["namespace"] = "default"
    world.create(own)


def test_what_is_being_written_is_taken_and_what_failed_is_free_again() -> None:
    world = World()
    first, second = service("a", clusterIP="10.96.5.5"), service("b", clusterIP="10.96.5.5")
    with world.addresses.reserving(first, None, dry_run=False), pytest.raises(Invalid):
        world.create(second)
    with world.addresses.reserving(second, None, dry_run=False):
        assert second["spec"]["clusterIPs"] == ["10.96.5.5"]


def test_a_full_range_is_told() -> None:
    world = World("10.96.0.0/30")
    world.create(service("a"))
    with pytest.raises(InternalError, match="range is full"):
        world.create(service("b"))


def test_node_ports_are_unique_and_shared_by_the_protocols_of_a_port() -> None:
    world = World()
    ports = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    one = world.create(service("dns", type="NodePort", ports=ports))["spec"]["ports"]
    assert one[0]["nodePort"] == one[1]["nodePort"]
    with pytest.raises(Invalid, match="provided port is already allocated"):
        world.create(service("b", type="NodePort", ports=[{"port": 1, "nodePort": one[0]["nodePort"]}]))
    with pytest.raises(Invalid, match="The range of valid ports is 30000-32767"):
        world.create(service("c", type="NodePort", ports=[{"port": 1, "nodePort": 80}]))


def test_an_update_keeps_what_its_service_has() -> None:
    world = World()
    old = world.create(service("a", type="NodePort"))
    new = {**old, "spec": dict(old["spec"])}
    with world.addresses.reserving(new, old, dry_run=False):
        assert new["spec"] == old["spec"]


DUAL = "10.96.0.0/16,fd00:1::/112"


def version(address: str) -> int:
    return ip_address(address).version


def change(world: World, old: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The Service after a write that changes its spec."""
    new: dict[str, Any] = {"metadata": old["metadata"], "spec": {**old["spec"], **spec}}
    with world.addresses.reserving(new, old, dry_run=False):
        entry = world.cache.get("a", old["metadata"]["name"])
        assert entry is not None
        world.store(new, Row(entry.key, codec.encode(old, "Service", "v1"), entry.revision, entry.created))
    return new


@pytest.mark.parametrize(
    ("asked", "versions"),
    [
        ({}, [4]),
        ({"ipFamilies": ["IPv6"]}, [6]),
        ({"ipFamilyPolicy": "PreferDualStack"}, [4, 6]),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}, [6, 4]),
        ({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd00:1::7"}, [6, 4]),
    ],
)
def test_a_service_gets_an_address_of_each_of_its_families(asked: dict[str, Any], versions: list[int]) -> None:
    made = World(DUAL).create(service("a", **asked))["spec"]
    assert [version(ip) for ip in made["clusterIPs"]] == versions
    assert made["clusterIP"] == made["clusterIPs"][0] == asked.get("clusterIP", made["clusterIP"])


def test_a_second_family_is_added_and_released_again() -> None:
    world = World(DUAL)
    one = world.create(service("a", clusterIP="10.96.0.9"))
    both = change(world, one, ipFamilyPolicy="RequireDualStack", clusterIPs=["10.96.0.9", "fd00:1::9"])
    assert both["spec"]["clusterIPs"] == ["10.96.0.9", "fd00:1::9"]
    with pytest.raises(Invalid, match="failed to allocate IP fd00:1::9: provided IP is already allocated"):
        world.create(service("b", clusterIP="fd00:1::9"))
    single = change(world, both, ipFamilyPolicy="SingleStack")
    assert single["spec"]["clusterIPs"] == ["10.96.0.9"]
    world.create(service("b", clusterIP="fd00:1::9"))


def test_a_service_that_takes_a_second_family_keeps_its_first_address() -> None:
    world = World(DUAL)
    one = world.create(service("a", ipFamilies=["IPv6"]))
    both = change(world, one, ipFamilyPolicy="PreferDualStack")["spec"]
    assert both["clusterIP"] == one["spec"]["clusterIP"]
    assert [version(ip) for ip in both["clusterIPs"]] == [6, 4]


def test_an_external_name_that_becomes_a_service_gets_addresses() -> None:
    world = World(DUAL)
    name = world.create(service("a", type="ExternalName", externalName="b.c"))
    assert "clusterIP" not in name["spec"]
    found = change(world, name, type="ClusterIP", ipFamilyPolicy="PreferDualStack")["spec"]
    assert [version(ip) for ip in found["clusterIPs"]] == [4, 6]


def test_addresses_of_a_write_that_fails_are_free_again() -> None:
    world = World(DUAL)
    world.create(service("a", clusterIP="fd00:1::9"))
    asked = service("b", clusterIP="10.96.0.9", clusterIPs=["10.96.0.9", "fd00:1::9"], ipFamilyPolicy="PreferDualStack")
    with pytest.raises(Invalid, match=r'\["10.96.0.9","fd00:1::9"\]: failed to allocate IP fd00:1::9'):
        world.create(asked)
    world.create(service("c", clusterIP="10.96.0.9"))


def test_one_family_may_be_full_while_the_other_is_not() -> None:
    world = World("10.96.0.0/30,fd00:1::/112")
    world.create(service("a"))
    with pytest.raises(InternalError, match="range is full"):
        world.create(service("b", ipFamilyPolicy="PreferDualStack"))
    assert version(world.create(service("c", ipFamilies=["IPv6"]))["spec"]["clusterIP"]) == 6


def test_a_headless_service_has_families_and_no_address() -> None:
    made = World(DUAL).create(service("a", clusterIP="None", selector={"a": "b"}, ipFamilyPolicy="PreferDualStack"))
    assert made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert made["spec"]["clusterIPs"] == ["None"]


def test_a_dry_run_takes_nothing_and_looks_only_at_the_ranges() -> None:
    world = World(DUAL)
    world.create(service("a", clusterIP="10.96.0.9"))
    same = service("b", clusterIP="10.96.0.9", ipFamilyPolicy="RequireDualStack")
    with world.addresses.reserving(same, None, dry_run=True):
        assert same["spec"]["clusterIPs"] == ["10.96.0.9", "fd00:1::"]
    outside = service("c", clusterIP="192.0.2.1")
    text = r"the provided IP \(192.0.2.1\) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
    with pytest.raises(Invalid, match=text), world.addresses.reserving(outside, None, dry_run=True):
        pass
