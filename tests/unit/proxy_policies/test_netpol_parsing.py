"""NetworkPolicies and pods as values: what objects say, with the API's defaults."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from netpol_world import peers_from, peers_to, pod, policy
from tiphys.proxy.policies import ranges
from tiphys.proxy.policies.facts import NamedPort, pod_of, reduced, reduced_namespace
from tiphys.proxy.policies.policy import Ports, policy_of
from tiphys.proxy.policies.rules import chain_of


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({}, True, False),
        ({"egress": []}, True, False),
        ({"egress": [{}]}, True, True),
        ({"policyTypes": ["Egress"]}, False, True),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, True, False),
        ({"policyTypes": ["Ingress", "Egress"]}, True, True),
    ],
)
def test_a_policy_is_about_the_directions_that_it_names_or_that_follow_from_its_rules(
    spec: Any, ingress: bool, egress: bool
) -> None:
    found = policy_of(policy("x", "p", **spec))
    assert (found.ingress is not None, found.egress is not None) == (ingress, egress)


def test_no_rules_let_nothing_pass_and_an_empty_rule_lets_everything_pass() -> None:
    assert chain_of(policy_of(policy("x", "p")), "ingress").rules == ()
    (rule,) = chain_of(policy_of(policy("x", "p", ingress=[{}])), "ingress").rules
    assert (rule.family, rule.peers, rule.blocks, rule.protocol) == (0, "", (), "")


def test_ports_of_a_protocol_are_put_together_and_default_to_tcp() -> None:
    listed: list[Any] = [
        {"port": 80},
        {"port": 81, "endPort": 90},
        {"port": 53, "protocol": "UDP"},
        {"port": 85},
        {"port": "web"},
    ]
    (allowed,) = policy_of(policy("x", "p", ingress=[peers_from(ports=listed)])).ingress or ()
    assert allowed.ports == (Ports("tcp", ((80, 90),)), Ports("udp", ((53, 53),)), Ports("tcp", name="web"))


def test_a_protocol_without_a_port_means_all_its_ports_whatever_else_is_named() -> None:
    (allowed,) = (
        policy_of(policy("x", "p", ingress=[peers_from(ports=[{"protocol": "TCP"}, {"port": 80}])])).ingress or ()
    )
    assert allowed.ports == (Ports("tcp"),)


def test_an_exception_counts_for_its_own_block_only() -> None:
    blocks: list[Any] = [
        {"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.0/25", "10.0.0.200/32"]}},
        {"ipBlock": {"cidr": "10.0.0.1/32"}},
    ]
    (allowed,) = policy_of(policy("x", "p", egress=[peers_to(*blocks)])).egress or ()
    found = (allowed.blocks or {})[4]
    shown = [(str(ip_address(first)), str(ip_address(last))) for first, last in found]
    assert shown == [("10.0.0.1", "10.0.0.1"), ("10.0.0.128", "10.0.0.199"), ("10.0.0.201", "10.0.0.255")]


def test_a_block_of_which_nothing_is_left_is_nobody_rather_than_everybody() -> None:
    nobody = {"ipBlock": {"cidr": "10.0.0.0/31", "except": ["10.0.0.0/32", "10.0.0.1/32"]}}
    assert chain_of(policy_of(policy("x", "p", ingress=[peers_from(nobody)])), "ingress").rules == ()


def test_ranges_are_merged_and_cut() -> None:
    assert ranges.merge([(5, 7), (1, 2), (3, 4), (9, 9), (8, 1)]) == ((1, 7), (9, 9))
    assert ranges.without(((0, 10),), [(3, 4), (10, 20)]) == ((0, 2), (5, 9))
    assert ranges.without(((3, 4),), [(0, 10)]) == ()


def test_what_is_kept_of_a_pod_is_all_that_counts() -> None:
    whole = pod("x", "a", ["10.0.0.1", "FD00:0::1"])
    assert pod_of(reduced(whole)) == pod_of(whole)
    assert pod_of(whole).addresses == ("10.0.0.1", "fd00::1")
    assert "image" not in str(reduced(whole))


def test_finished_pods_and_those_of_their_hosts_network_are_nobodys_peers() -> None:
    assert pod_of(pod("x", "a", ["10.0.0.1"], phase="Succeeded")).addresses == ()
    assert pod_of(pod("x", "a", ["10.0.0.1"], host_network=True)).addresses == ()
    assert pod_of(pod("x", "a", ["10.0.0.1"], phase="Unknown")).addresses == ("10.0.0.1",)


@pytest.mark.parametrize("wrong", ["fe80::1%eth0", "::1%x } ; flush ruleset", "10.0.0.256", "", "localhost"])
def test_what_is_no_address_that_packets_have_is_left_out(wrong: str) -> None:
    assert pod_of(pod("x", "a", [wrong, "10.0.0.1"])).addresses == ("10.0.0.1",)


def test_sidecars_ports_have_names_too_and_those_of_other_init_containers_do_not() -> None:
    obj = pod("x", "a", [], ports=[{"name": "web", "containerPort": 8080}])
    obj["spec"]["initContainers"] = [
        {"name": "s", "restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 1, "protocol": "UDP"}]},
        {"name": "i", "ports": [{"name": "web2", "containerPort": 2}]},
    ]
    expected = (NamedPort("web", "tcp", 8080), NamedPort("mesh", "udp", 1))
    assert pod_of(obj).ports == pod_of(reduced(obj)).ports == expected


def test_of_a_namespace_name_and_labels_are_kept() -> None:
    whole = {"metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"finalizers": []}}
    assert reduced_namespace(whole) == {"metadata": {"name": "x", "labels": {"a": "b"}}}
