"""What a Service is in the table; that it also works is shown with real packets in e2e/test_service_rules.py."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from tiphys.proxy.services import layout
from tiphys.proxy.services.config import ROUND_ROBIN, ProxyConfig
from tiphys.proxy.services.facts import IPV4, IPV6, Endpoint, Family, ServicePort
from tiphys.proxy.services.rules import Rules, compile_service
from tiphys.proxy.services.topology import Place, usable

HERE, THERE = "node-1", "node-2"
CONFIG = ProxyConfig(node=HERE, local_pods=("10.1.1.0/24",), node_ips=("192.0.2.1", "fd00::1"))
HOST = ProxyConfig(near=("10.1.0.0/16",))


def near(number: int) -> Endpoint:
    return Endpoint(f"10.1.1.{number}", 8080, node=HERE)


def far(number: int) -> Endpoint:
    return Endpoint(f"10.1.2.{number}", 8080, node=THERE)


def compiled(
    *endpoints: Endpoint, config: ProxyConfig = CONFIG, family: Family = IPV4, **port: Any
) -> tuple[Rules, dict[str, dict[str, str]]]:
    """The rules, and their elements by map; chains' names are without the hash and the Service."""
    one = ServicePort("default/web", "", "tcp", "10.96.0.10", 80)._replace(**port)
    place = Place(config.node, near=config.near)
    rules = compile_service({one: usable(one, endpoints, place)}, ("", "default/web"), family, config, place)
    elements: dict[str, dict[str, str]] = {}
    for (name, key), value in rules.elements.items():
        elements.setdefault(name, {})[key] = short(value)
    return rules, elements


def short(text: str) -> str:
    """goto cluster-0123456789ab-default/web/tcp -> goto cluster"""
    return re.sub(r"goto ([a-z]+)-[0-9a-f]{12}-default/web[a-z0-9./-]*", r"goto \1", text)


def lines(rules: Rules, kind: str) -> list[str]:
    """The rules of the chain of that kind."""
    (found,) = (each for name, each in rules.chains.items() if name.startswith(f"{kind}-"))
    return [short(line) for line in found]


def test_a_cluster_ip_leads_to_a_chain_that_translates() -> None:
    rules, elements = compiled(far(2))
    assert elements == {
        layout.CLUSTER_IPS: {"10.96.0.10": ""},
        layout.SERVICE_IPS: {"10.96.0.10 . tcp . 80": "goto cluster"},
    }
    assert lines(rules, "cluster") == ["meta l4proto tcp dnat to 10.1.2.2:8080"]


def test_few_endpoints_are_chosen_by_rules_and_many_by_a_map() -> None:
    rules, _ = compiled(far(2), far(3), far(4))
    assert lines(rules, "cluster") == [
        "numgen random mod 3 0 meta l4proto tcp dnat to 10.1.2.2:8080",
        "numgen random mod 2 0 meta l4proto tcp dnat to 10.1.2.3:8080",
        "meta l4proto tcp dnat to 10.1.2.4:8080",
    ]
    rules, _ = compiled(*(far(number) for number in range(2, 7)))
    numbered = ", ".join(f"{number} : 10.1.2.{number + 2} . 8080" for number in range(5))
    assert lines(rules, "cluster") == [
        f"meta l4proto tcp dnat ip addr . port to numgen random mod 5 map {{ {numbered} }}"
    ]


def test_turns_by_annotation_or_for_all() -> None:
    rules, _ = compiled(far(2), far(3), balancing=ROUND_ROBIN)
    assert lines(rules, "cluster")[0].startswith("numgen inc mod 2 0 ")
    rules, _ = compiled(far(2), far(3), config=replace(CONFIG, balancing=ROUND_ROBIN))
    assert lines(rules, "cluster")[0].startswith("numgen inc mod 2 0 ")
    rules, _ = compiled(far(2), far(3), config=replace(CONFIG, balancing=ROUND_ROBIN), balancing="random")
    assert lines(rules, "cluster")[0].startswith("numgen random mod 2 0 ")


def test_ipv6_has_its_own_words() -> None:
    rules, elements = compiled(Endpoint("fd01::2", 8080, node=HERE), family=IPV6, cluster_ip="fd96::a", affinity=5)
    assert elements[layout.HAIRPIN] == {"fd01::2 . fd01::2 . tcp . 8080": ""}
    assert lines(rules, "endpoint")[1] == "meta l4proto tcp dnat to [fd01::2]:8080"
    (held,) = rules.sets.values()
    assert held == "{ type ipv6_addr; flags dynamic, timeout; timeout 5s; }"


def test_local_endpoints_may_reach_themselves() -> None:
    _, elements = compiled(near(2), far(3))
    assert elements[layout.HAIRPIN] == {"10.1.1.2 . 10.1.1.2 . tcp . 8080": ""}
    _, elements = compiled(Endpoint("10.1.1.4", 8080), far(3))
    assert elements[layout.HAIRPIN] == {"10.1.1.4 . 10.1.1.4 . tcp . 8080": ""}


EXTERNAL: dict[str, Any] = {"node_port": 30080, "external_ips": ("203.0.113.1",), "load_balancer_ips": ("203.0.113.2",)}
ADDRESSES = ("203.0.113.1 . tcp . 80", "203.0.113.2 . tcp . 80")
INSIDE = "10.96.0.10 . tcp . 80"


def test_what_comes_from_outside_is_masqueraded() -> None:
    rules, elements = compiled(far(2), **EXTERNAL)
    assert elements[layout.SERVICE_IPS] == {INSIDE: "goto cluster", **dict.fromkeys(ADDRESSES, "goto external")}
    assert elements[layout.NODE_PORTS] == {"tcp . 30080": "goto external"}
    assert lines(rules, "external") == ["meta mark set meta mark or 0x4000", "goto cluster"]


def test_the_external_policy_local() -> None:
    rules, elements = compiled(near(2), far(3), external_local=True, **EXTERNAL)
    assert lines(rules, "external") == [
        "ip saddr @local-pods goto cluster",
        "fib saddr type local meta mark set meta mark or 0x4000 goto cluster",
        "goto local",
    ]
    assert lines(rules, "local") == ["meta l4proto tcp dnat to 10.1.1.2:8080"]
    assert layout.NO_ENDPOINTS not in elements


def test_the_external_policy_local_with_endpoints_elsewhere_only() -> None:
    rules, elements = compiled(far(3), external_local=True, **EXTERNAL)
    assert len(lines(rules, "external")) == 2
    assert elements[layout.SERVICE_IPS][INSIDE] == "goto cluster"
    assert elements[layout.NO_ENDPOINTS] == dict.fromkeys(ADDRESSES, "drop")
    assert elements[layout.NO_ENDPOINTS_NODE_PORTS] == {"tcp . 30080": "drop"}


def test_the_internal_policy_local_with_endpoints_elsewhere_only() -> None:
    rules, elements = compiled(far(3), internal_local=True, **EXTERNAL)
    assert elements[layout.NO_ENDPOINTS] == {INSIDE: "drop"}
    assert elements[layout.SERVICE_IPS] == dict.fromkeys(ADDRESSES, "goto external")
    assert not any(name.startswith("local-") for name in rules.chains)


def test_without_any_endpoint_everything_is_refused() -> None:
    rules, elements = compiled(external_local=True, internal_local=True, **EXTERNAL)
    assert elements == {
        layout.CLUSTER_IPS: {"10.96.0.10": ""},
        layout.NO_ENDPOINTS: dict.fromkeys((INSIDE, *ADDRESSES), "goto refuse"),
        layout.NO_ENDPOINTS_NODE_PORTS: {"tcp . 30080": "goto refuse"},
    }
    assert not rules.chains


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("198.51.100.0/24",), "{ 198.51.100.0/24 }"),
        (("198.51.100.0/24", "192.0.2.0/24"), "{ 192.0.2.0/24, 198.51.100.0/24, 203.0.113.2/32 }"),
        (("192.0.2.0/24", "203.0.113.0/24"), "{ 192.0.2.0/24, 203.0.113.0/24 }"),
    ],
    ids=["others", "the node may use it, also with the balancer's address", "which may be in a range already"],
)
def test_source_ranges(given: tuple[str, ...], expected: str) -> None:
    rules, elements = compiled(far(2), source_ranges=given, **EXTERNAL)
    assert lines(rules, "firewall") == [f"ip saddr != {expected} drop"]
    assert elements[layout.FIREWALL] == {ADDRESSES[1]: "goto firewall"}


def test_session_affinity_remembers_by_endpoint() -> None:
    rules, _ = compiled(far(2), far(3), affinity=60)
    clients = list(rules.sets)
    assert [name.rpartition("default/web/")[2] for name in clients] == ["10.1.2.2/8080", "10.1.2.3/8080"]
    assert lines(rules, "cluster") == [
        *(f"ip saddr @{name} goto endpoint" for name in clients),
        "numgen random mod 2 vmap { 0 : goto endpoint, 1 : goto endpoint }",
    ]
    endpoints = [each for name, each in rules.chains.items() if name.startswith("endpoint-")]
    assert endpoints[0] == (f"update @{clients[0]} {{ ip saddr }}", "meta l4proto tcp dnat to 10.1.2.2:8080")


def test_clients_of_an_endpoint_are_remembered_when_others_come_and_go() -> None:
    before, after = compiled(far(2), far(3), affinity=60)[0], compiled(far(3), far(4), affinity=60)[0]
    assert len(before.sets.keys() & after.sets.keys()) == 1
    assert not before.sets.keys() & compiled(far(2), far(3), affinity=61)[0].sets.keys()


def test_equal_rules_have_equal_names_and_others_have_others() -> None:
    first, same = compiled(far(2), far(3), **EXTERNAL)[0], compiled(far(2), far(3), **EXTERNAL)[0]
    assert first.chains == same.chains
    other = compiled(far(2), far(4), **EXTERNAL)[0]
    assert not first.chains.keys() & other.chains.keys()


def test_the_host_has_no_node_ports_and_takes_pods_of_the_machine_for_local() -> None:
    rules, elements = compiled(near(2), far(3), external_local=True, config=HOST, **EXTERNAL)
    assert layout.NODE_PORTS not in elements
    assert layout.HAIRPIN not in elements
    assert lines(rules, "external")[-1] == "goto local"
    assert lines(rules, "local") == lines(rules, "cluster")
    rules, elements = compiled(near(2), node_port=30080, config=HOST)
    assert list(elements) == [layout.CLUSTER_IPS, layout.FRONTENDS, layout.SERVICE_IPS]


def test_the_host_marks_nothing_since_other_clusters_would_see_it() -> None:
    rules, elements = compiled(near(2), config=HOST, **EXTERNAL)
    assert elements[layout.SERVICE_IPS] == dict.fromkeys((INSIDE, *ADDRESSES), "goto cluster")
    assert elements[layout.FRONTENDS] == dict.fromkeys(("10.96.0.10", "203.0.113.1", "203.0.113.2"), "")
    rules, _ = compiled(near(2), config=HOST, external_local=True, **EXTERNAL)
    assert not any("mark" in line for lines in rules.chains.values() for line in lines)


def test_longest_names_fit_into_the_kernel() -> None:
    service = f"{'n' * 63}/{'s' * 63}"
    endpoints = (Endpoint("fd74:6970:6801:1001:ffff:ffff:ffff:fffe", 65535), Endpoint("fd01::1", 80))
    rules, _ = compiled(*endpoints, family=IPV6, service=service, name="p" * 63, protocol="sctp", affinity=86400)
    assert all(len(name) < 256 for name in (*rules.chains, *rules.sets))
