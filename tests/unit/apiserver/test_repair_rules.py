"""Which allocations of Services do not agree with who has them: the rules."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

import pytest

from tiphys.apiserver.repair.addresses import of_address, of_service
from tiphys.apiserver.repair.findings import Finding, Later, Repair
from tiphys.apiserver.repair.ports import PortBook, node_ports
from tiphys.base.clock import rfc3339

NOW = 1_800_000_000.0
NETWORKS = [ip_network("10.0.0.0/16"), ip_network("2001:db8::/64")]
MANAGED = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}


def service(name: str, *ips: str, age: float = 600, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name, "creationTimestamp": rfc3339(NOW - age)}
    return {"metadata": metadata, "spec": {"clusterIP": ips[0] if ips else "", "clusterIPs": list(ips), **spec}}


def address(ip: str, name: str, age: float = 600, **parent: str) -> dict[str, Any]:
    labels = {"ipaddress.kubernetes.io/ip-family": "IPv6" if ":" in ip else "IPv4", **MANAGED}
    metadata = {"name": ip, "labels": labels, "creationTimestamp": rfc3339(NOW - age)}
    return {
        "metadata": metadata,
        "spec": {"parentRef": {"resource": "services", "namespace": "ns", "name": name, **parent}},
    }


class World:
    """What there is."""

    def __init__(self, services: Iterable[dict[str, Any]], addresses: Iterable[dict[str, Any]] = ()) -> None:
        self.services = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
        self.addresses = {one["metadata"]["name"]: one for one in addresses}

    def of_service(self, name: str) -> list[Finding]:
        found = of_service(self.services["ns", name], self.addresses.get, self.service, NETWORKS)
        return list(found)

    def of_address(self, ip: str) -> Finding | Later | None:
        return of_address(self.addresses[ip], self.service, NOW)

    def service(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.services.get((namespace, name))


def told(findings: Iterable[Finding]) -> list[tuple[str, str, Repair]]:
    return [(one.reason, one.message, one.repair) for one in findings]


@pytest.mark.parametrize("ips", [("10.0.1.1",), ("10.0.1.1", "2001:db8::10"), ("2001:db8::ffff:ffff:ffff:ffff",)])
def test_what_agrees_is_left_alone(ips: tuple[str, ...]) -> None:
    world = World([service("web", *ips)], [address(ip, "web") for ip in ips])
    assert world.of_service("web") == []
    assert [world.of_address(ip) for ip in ips] == [None] * len(ips)


@pytest.mark.parametrize("spec", [{"clusterIP": "None", "clusterIPs": ["None"]}, {"type": "ExternalName"}, {}])
def test_services_without_an_address_need_none(spec: dict[str, Any]) -> None:
    assert World([service("web", **spec)]).of_service("web") == []


def test_missing_addresses_are_made() -> None:
    assert told(World([service("web", "10.0.1.1", "2001:db8::10")]).of_service("web")) == [
        ("ClusterIPNotAllocated", "Cluster IP [IPv4]: 10.0.1.1 is not allocated; repairing", Repair.CREATE),
        ("ClusterIPNotAllocated", "Cluster IP [IPv6]: 2001:db8::10 is not allocated; repairing", Repair.CREATE),
    ]


def test_one_written_in_another_way_is_the_same_address() -> None:
    assert World([service("web", "2001:db8:0::10")], [address("2001:db8::10", "web")]).of_service("web") == []


@pytest.mark.parametrize("parent", [{"name": "gone"}, {"resource": "gateways"}, {"group": "example.com"}])
def test_an_address_that_names_another_is_made_anew(parent: dict[str, str]) -> None:
    world = World([service("web", "10.0.1.1")], [address("10.0.1.1", "web") | {}])
    world.addresses["10.0.1.1"]["spec"]["parentRef"].update(parent)
    message = "the ClusterIP [IPv4]: 10.0.1.1 for Service ns/web has a wrong reference; repairing"
    assert told(world.of_service("web")) == [("ClusterIPNotAllocated", message, Repair.RECREATE)]


@pytest.mark.parametrize("ip", ["10.1.0.1", "10.0.0.0", "10.0.255.255", "2001:db8::", "2001:db9::1"])
def test_what_no_range_gives_out_is_told_only(ip: str) -> None:
    [(reason, message, repair)] = told(World([service("web", ip)]).of_service("web"))
    family = 6 if ":" in ip else 4
    assert (reason, repair) == ("ClusterIPOutOfRange", Repair.NOTHING)
    assert message == (
        f"Cluster IP [IPv{family}]: {ip} is not within any configured Service CIDR; please recreate service"
    )


def test_nonsense_is_told_only() -> None:
    message = "Cluster IP <nil> is not a valid IP; please recreate Service"
    assert told(World([service("web", "10.0.1")]).of_service("web")) == [("ClusterIPNotValid", message, Repair.NOTHING)]


def test_of_two_services_with_one_address_the_one_that_has_no_ipaddress_is_told() -> None:
    world = World([service("a", "10.0.1.1"), service("b", "10.0.1.1")], [address("10.0.1.1", "a")])
    assert world.of_service("a") == []
    message = "Cluster IP [IPv4]:10.0.1.1 was assigned to multiple services; please recreate service"
    assert told(world.of_service("b")) == [("ClusterIPAlreadyAllocated", message, Repair.NOTHING)]


def test_an_address_that_lost_its_labels_is_made_anew_silently() -> None:
    world = World([service("web", "10.0.1.1")], [address("10.0.1.1", "web")])
    del world.addresses["10.0.1.1"]["metadata"]["labels"]
    assert told(world.of_service("web")) == [("", "", Repair.RECREATE)]
    assert world.of_address("10.0.1.1") is None


def test_an_orphan_is_removed_after_a_minute() -> None:
    world = World([], [address("10.0.1.1", "gone", age=20)])
    assert world.of_address("10.0.1.1") == Later(40)
    world = World([], [address("10.0.1.1", "gone", age=60)])
    finding = world.of_address("10.0.1.1")
    assert isinstance(finding, Finding)
    assert (finding.reason, finding.repair, finding.kind) == ("IPAddressNotAllocated", Repair.DELETE, "leak")
    assert finding.message == "IPAddress: 10.0.1.1 for Service ns/gone appears to have leaked: cleaning up"


def test_one_that_was_changed_to_name_no_service_is_removed() -> None:
    finding = World([], [address("10.0.1.1", "web", resource="gateways")]).of_address("10.0.1.1")
    assert isinstance(finding, Finding)
    assert finding.message == (
        "IPAddress 10.0.1.1 appears to have been modified, not referencing a Service "
        "&ParentReference{Group:,Resource:gateways,Namespace:ns,Name:web,}: cleaning up"
    )


def test_a_second_address_of_a_service_is_removed_once_its_making_must_have_ended() -> None:
    own = address("10.0.1.1", "web")
    young = World([service("web", "10.0.1.1")], [own, address("10.0.1.2", "web", age=3)])
    assert young.of_address("10.0.1.2") == Later(5)
    old = World([service("web", "10.0.1.1")], [own, address("10.0.1.2", "web", age=6)])
    finding = old.of_address("10.0.1.2")
    assert isinstance(finding, Finding)
    assert finding.message == "IPAddress: 10.0.1.2 for Service ns/web has a wrong reference; cleaning up"
    assert (finding.reason, finding.repair) == ("IPAddressWrongReference", Repair.DELETE)


@pytest.mark.parametrize(("age", "stays"), [(30.0, True), (61.0, False)])
def test_a_service_that_is_about_to_need_an_address_is_waited_for(age: float, stays: bool) -> None:
    external = service("web", type="ExternalName")
    found = World([external], [address("10.0.1.1", "web", age=age)]).of_address("10.0.1.1")
    assert isinstance(found, Later) is stays


def test_addresses_of_others_are_their_business() -> None:
    world = World([], [address("10.0.1.1", "gone")])
    world.addresses["10.0.1.1"]["metadata"]["labels"] = {"ipaddress.kubernetes.io/managed-by": "somebody"}
    assert world.of_address("10.0.1.1") is None


def ported(name: str, *ports: tuple[str, int], health: int = 0) -> dict[str, Any]:
    listed = [{"protocol": protocol, "nodePort": number} for protocol, number in ports]
    return service(name, ports=listed, healthCheckNodePort=health)


def test_the_node_ports_of_a_service() -> None:
    assert node_ports(ported("a", ("TCP", 111), ("UDP", 222))) == [111, 222]
    assert node_ports(ported("a", ("TCP", 111), ("UDP", 111))) == [111]
    assert node_ports(ported("a", ("TCP", 111), ("TCP", 111), ("UDP", 111))) == [111, 111]
    assert node_ports(ported("a", ("UDP", 111), ("TCP", 0), health=333)) == [111, 333]
    assert node_ports(ported("a", ("TCP", 333), health=333)) == [333, 333]
    assert node_ports(ported("a", ("UDP", 333), health=333)) == [333]


class Ports:
    """A book that knows these Services."""

    def __init__(self, *services: dict[str, Any]) -> None:
        self.book = PortBook(range(30000, 32768))
        self.services = {f"ns/{one['metadata']['name']}": one for one in services}
        for key, one in self.services.items():
            self.book.put(key, one)

    def told(self, key: str) -> list[str]:
        return [f"{one.reason}: {one.message}" for one in self.book.findings(key, self.services[key])]


def test_ports_out_of_range_are_told() -> None:
    text = "PortOutOfRange: Port 80 is not within the port range 30000-32767; please recreate service"
    assert Ports(ported("a", ("TCP", 80), ("TCP", 30000))).told("ns/a") == [text]


def test_of_two_services_of_one_port_the_later_one_is_told_until_the_other_goes() -> None:
    ports = Ports(ported("b", ("TCP", 30001)), ported("a", ("UDP", 30001)))
    assert ports.told("ns/a") == []
    text = "PortAlreadyAllocated: Port 30001 was assigned to multiple services; please recreate service"
    assert ports.told("ns/b") == [text]
    assert ports.book.put("ns/a", None) == {"ns/b"}
    assert ports.told("ns/b") == []


def test_a_port_that_one_service_has_twice_is_told() -> None:
    assert len(Ports(ported("a", ("TCP", 30001), ("TCP", 30001))).told("ns/a")) == 1
    assert Ports(ported("a", ("TCP", 30001), ("UDP", 30001))).told("ns/a") == []
