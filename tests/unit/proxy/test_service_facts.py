"""Services and slices as the proxy understands them."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.proxy.services import facts
from tiphys.proxy.services.facts import IPV4, IPV6, Endpoint, Family, ServicePort


def service(labels: dict[str, str] | None = None, name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    status = {"loadBalancer": {"ingress": spec.pop("ingress", [])}}
    annotations = spec.pop("annotations", {})
    return {
        "metadata": {"namespace": "default", "name": name, "labels": labels, "annotations": annotations},
        "spec": {"type": "ClusterIP", "clusterIPs": ["10.96.0.1", "fd96::1"], "ports": ports, **spec},
        "status": status,
    }


def one(obj: dict[str, Any], family: Family = IPV4) -> ServicePort:
    (port,) = facts.service_ports(obj, family).values()
    return port


def test_a_port_has_the_addresses_of_its_family() -> None:
    obj = service(
        type="LoadBalancer",
        externalIPs=["192.0.2.1", "FD0E:0::1"],
        ingress=[{"ip": "192.0.2.2"}, {"ip": "fd0e::2"}, {"hostname": "lb.example"}],
        loadBalancerSourceRanges=["192.0.2.0/24", " fd0e::/64 "],
    )
    assert one(obj) == ServicePort(
        "default/web", "http", "tcp", "10.96.0.1", 80,
        external_ips=("192.0.2.1",), load_balancer_ips=("192.0.2.2",), source_ranges=("192.0.2.0/24",),
    )  # fmt: skip
    assert one(obj, IPV6) == ServicePort(
        "default/web", "http", "tcp", "fd96::1", 80,
        external_ips=("fd0e::1",), load_balancer_ips=("fd0e::2",), source_ranges=("fd0e::/64",),
    )  # fmt: skip


def test_ports_are_known_by_name_and_protocol() -> None:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "sctp", "port": 132, "protocol": "SCTP"},
    ]
    found = facts.service_ports(service(ports=ports), IPV4)
    assert list(found) == [("dns", "udp"), ("dns-tcp", "tcp"), ("sctp", "sctp")]
    assert found["dns", "udp"].node_port == 30053


@pytest.mark.parametrize(
    "obj",
    [
        service(clusterIPs=["None"], clusterIP="None"),
        service(clusterIPs=[], clusterIP=""),
        service(type="ExternalName"),
        service({"service.kubernetes.io/service-proxy-name": "other"}),
        service({"service.kubernetes.io/headless": ""}),
        service(ports=[]),
    ],
    ids=["headless", "no address yet", "ExternalName", "another proxy's", "labelled headless", "no ports"],
)
def test_what_is_not_proxied(obj: dict[str, Any]) -> None:
    assert facts.service_ports(obj, IPV4) == {}


def test_a_service_of_one_family_is_none_of_the_other() -> None:
    assert facts.service_ports(service(clusterIPs=["10.96.0.1"]), IPV6) == {}
    assert one(service(clusterIPs=None, clusterIP="10.96.0.9")).cluster_ip == "10.96.0.9"


def test_the_mode_of_a_balancers_address_decides() -> None:
    ingress = [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"ip": "192.0.2.3"}]
    assert one(service(type="LoadBalancer", ingress=ingress)).load_balancer_ips == ("192.0.2.1", "192.0.2.3")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32"], ("10.0.0.0/8", "192.0.2.1/32")),
        (["10.0.0.0/9", "10.128.0.0/9"], ("10.0.0.0/8",)),
        (["10.0.0.7/8"], ("10.0.0.0/8",)),
        (["10.0.0.0/8", "0.0.0.0/0"], ()),
        (["0.0.0.0/1", "128.0.0.0/1"], ()),
        (["fd00::/8"], ()),
        (["nonsense"], ()),
    ],
)
def test_ranges_do_not_overlap(given: list[str], expected: tuple[str, ...]) -> None:
    assert facts.ranges(given, IPV4) == expected


def test_affinity_has_the_usual_timeout_unless_told() -> None:
    assert one(service()).affinity == 0
    assert one(service(sessionAffinity="ClientIP")).affinity == 10800
    config = {"clientIP": {"timeoutSeconds": 5}}
    assert one(service(sessionAffinity="ClientIP", sessionAffinityConfig=config)).affinity == 5


def test_the_external_policy_needs_something_external() -> None:
    assert not one(service(externalTrafficPolicy="Local")).external_local
    for spec in ({"type": "NodePort"}, {"type": "LoadBalancer"}, {"externalIPs": ["192.0.2.1"]}):
        assert one(service(externalTrafficPolicy="Local", **spec)).external_local


@pytest.mark.parametrize(("wanted", "found"), [("round-robin", "round-robin"), ("random", "random"), ("other", "")])
def test_an_annotation_chooses_how_to_balance(wanted: str, found: str) -> None:
    assert one(service(annotations={"tiphys.io/balancing": wanted})).balancing == found


@pytest.mark.parametrize("name", ["web; flush ruleset", "a b", "Web", "-web", "web\n"])
def test_names_that_would_be_more_than_names_get_nowhere(name: str) -> None:
    assert facts.service_ports(service(name=name), IPV4) == {}
    assert facts.service_ports(service(ports=[{"name": name, "port": 80}]), IPV4) == {}


def slice_of(*endpoints: dict[str, Any], ports: Any = None, kind: str = "IPv4") -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": kind,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}] if ports is None else ports,
        "endpoints": list(endpoints),
    }


def endpoint(address: str, **more: Any) -> dict[str, Any]:
    return {"addresses": [address], **more}


HTTP = ("http", "tcp")


def test_endpoints_of_several_slices_come_together_in_order() -> None:
    found = facts.endpoints_by_port([slice_of(endpoint("10.1.0.9")), slice_of(endpoint("10.1.0.2"))], IPV4)
    assert [each.address for each in found[HTTP]] == ["10.1.0.2", "10.1.0.9"]


def test_a_port_may_have_another_number_in_each_slice() -> None:
    other = slice_of(endpoint("10.1.0.3"), ports=[{"name": "http", "port": 9090, "protocol": "TCP"}])
    found = facts.endpoints_by_port([slice_of(endpoint("10.1.0.2")), other], IPV4)
    assert [(each.address, each.port) for each in found[HTTP]] == [("10.1.0.2", 8080), ("10.1.0.3", 9090)]


def test_conditions_that_are_not_told_are_good_ones() -> None:
    (found,) = facts.endpoints_by_port([slice_of(endpoint("10.1.0.2"))], IPV4)[HTTP]
    assert found == Endpoint("10.1.0.2", 8080)
    told = endpoint("10.1.0.2", conditions={"ready": False, "serving": True, "terminating": True}, nodeName="n")
    (found,) = facts.endpoints_by_port([slice_of(told)], IPV4)[HTTP]
    assert (found.ready, found.going, found.node) == (False, True, "n")


def test_hints_are_understood() -> None:
    hints = {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n"}]}
    (found,) = facts.endpoints_by_port([slice_of(endpoint("10.1.0.2", hints=hints))], IPV4)[HTTP]
    assert (found.for_zones, found.for_nodes) == (frozenset("ab"), frozenset("n"))


def test_an_address_that_two_slices_have_is_that_of_the_pod_that_stays() -> None:
    ends = slice_of(endpoint("10.1.0.2", conditions={"ready": False, "serving": True, "terminating": True}))
    stays = slice_of(endpoint("10.1.0.2"))
    for slices in ([ends, stays], [stays, ends]):
        (found,) = facts.endpoints_by_port(slices, IPV4)[HTTP]
        assert found.ready


@pytest.mark.parametrize(
    "unusable",
    [
        slice_of(endpoint("fd01::1"), kind="IPv6"),
        slice_of(endpoint("web.example"), kind="FQDN"),
        slice_of({"addresses": []}),
        slice_of(endpoint("10.1.0.999")),
        slice_of(endpoint("10.1.0.2"), ports=[{"name": "http", "protocol": "TCP"}]),
        slice_of(endpoint("10.1.0.2"), ports=[{"name": "http", "port": 0, "protocol": "TCP"}]),
        {**slice_of(endpoint("10.1.0.2")), "metadata": {"labels": {"service.kubernetes.io/headless": ""}}},
    ],
    ids=["other family", "names", "no address", "no valid address", "no port", "port zero", "headless"],
)
def test_slices_that_say_nothing(unusable: dict[str, Any]) -> None:
    assert not any(facts.endpoints_by_port([unusable], IPV4).values())


def test_a_slice_belongs_to_the_service_in_its_label() -> None:
    assert facts.owner_of(slice_of()) == "default/web"
    assert facts.owner_of({"metadata": {"namespace": "default", "name": "x"}}) == ""
