"""Which machines there are, from Node objects."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from tiphys.overlay.peers import own_ranges, peers_of, pod_ranges
from tiphys.overlay.types import ADDRESS, SUBNETS


def node(
    name: str, address: str = "", *pods: str, annotations: dict[str, str] | None = None, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": each} for each in (address, *more) if each]
    return {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"podCIDR": pods[0], "podCIDRs": list(pods)} if pods else {},
        "status": {"addresses": [{"type": "Hostname", "address": name}, *addresses]},
    }


def told(nodes: list[dict[str, Any]], own: str = "192.168.0.1", version: int = 4) -> dict[str, list[str]]:
    return {peer.address: [str(each) for each in peer.subnets] for peer in peers_of(nodes, own, frozenset(), version)}


def test_other_machines_with_their_pods_ranges() -> None:
    nodes = [
        node("a", "192.168.0.1", "10.0.1.0/24"),
        node("b", "192.168.0.2", "10.0.2.0/24", "fd00:0:0:2::/64"),
        node("c", "192.168.0.3"),
        node("d", "", "10.0.4.0/24"),
    ]
    assert told(nodes) == {"192.168.0.2": ["10.0.2.0/24", "fd00:0:0:2::/64"]}
    assert pod_ranges(nodes) == ["10.0.1.0/24", "10.0.2.0/24", "10.0.4.0/24", "fd00:0:0:2::/64"]


def test_nodes_behind_their_machine_are_one_peer() -> None:
    behind = {ADDRESS: "192.168.0.9", SUBNETS: "10.89.0.0/24"}
    nodes = [
        node("n1", "10.89.0.2", "10.244.1.0/24", annotations=behind),
        node("n2", "10.89.0.3", "10.244.2.0/24", annotations=behind),
    ]
    assert told(nodes) == {"192.168.0.9": ["10.244.1.0/24", "10.89.0.0/24", "10.244.2.0/24"]}


def test_nodes_of_this_machine_are_no_peers() -> None:
    nodes = [node("a", "10.89.0.2", "10.0.1.0/24"), node("b", "192.168.0.2", "10.0.2.0/24")]
    assert [peer.address for peer in peers_of(nodes, "192.168.0.1", frozenset({"a"}), 4)] == ["192.168.0.2"]


def test_a_range_that_another_node_has_is_not_taken_over() -> None:
    nodes = [
        node("a", "192.168.0.2", "10.0.2.0/24"),
        node("evil", "192.168.0.66", "10.0.2.0/25"),
        node("same", "192.168.0.67", "10.0.2.0/24"),
    ]
    assert told(nodes) == {"192.168.0.2": ["10.0.2.0/24"]}


def test_a_range_is_the_older_nodes_whatever_they_are_called() -> None:
    nodes = [node("z", "192.168.0.2", "10.0.2.0/24"), node("a", "192.168.0.66", "10.0.2.0/24")]
    for each, year in zip(nodes, ("2026", "2027"), strict=True):
        each["metadata"]["creationTimestamp"] = f"{year}-01-01T00:00:00Z"
    assert told(nodes) == {"192.168.0.2": ["10.0.2.0/24"]}


def test_a_claimed_range_must_have_the_nodes_own_address_and_be_one_of_nodes() -> None:
    claims = "0.0.0.0/0,8.8.8.0/24,192.168.0.0/24,10.89.1.0/24,nonsense,"
    nodes = [
        node("a", "192.168.0.2", "10.0.2.0/24", annotations={SUBNETS: claims}),
        node("b", "10.89.7.2", "10.0.3.0/24", annotations={ADDRESS: "192.168.0.3", SUBNETS: "10.89.7.0/24,10.0.0.0/8"}),
    ]
    assert told(nodes) == {"192.168.0.2": ["10.0.2.0/24"], "192.168.0.3": ["10.0.3.0/24", "10.89.7.0/24"]}


def test_the_address_is_of_the_wanted_ip_version() -> None:
    nodes = [node("a", "192.168.0.2", "10.0.2.0/24", more=("fd01::2",))]
    assert told(nodes, "fd01::1", 6) == {"fd01::2": ["10.0.2.0/24"]}
    assert told(nodes, "192.168.0.1", 4) == {"192.168.0.2": ["10.0.2.0/24"]}


def test_addresses_that_are_none_are_passed_over() -> None:
    nodes = [node("a", "nonsense", "10.0.2.0/24", annotations={ADDRESS: "127.0.0.1"}, more=("192.168.0.2",))]
    assert told(nodes) == {"192.168.0.2": ["10.0.2.0/24"]}


def test_own_ranges_are_none_before_they_are_given() -> None:
    assert own_ranges(None) == ()
    assert own_ranges(node("a", "192.168.0.2")) == ()
    assert own_ranges(node("a", "192.168.0.2", "10.0.2.0/24")) == ("10.0.2.0/24",)


def test_no_other_machine_gets_a_part_of_this_ones_ranges() -> None:
    nodes = [
        node("evil", "192.168.0.66", "10.244.1.0/25", "10.244.201.0/24"),
        node("mine", "10.89.0.2", "10.244.1.0/24"),
    ]
    here = (ip_network("10.244.0.0/17"),)
    (peer,) = peers_of(nodes, "192.168.0.1", frozenset({"mine"}), 4, here)
    assert [str(each) for each in peer.subnets] == ["10.244.201.0/24"]
