"""The node's name server counts as the pod that policies are written for."""

from __future__ import annotations

from typing import Any

import pytest

from netpol_world import peers_to, pod, policy
from tiphys.proxy.policies.compiler import Compiler
from tiphys.proxy.policies.facts import pod_of
from tiphys.proxy.policies.names import NameServer, refused
from tiphys.proxy.policies.policy import policy_of

SERVER = NameServer(("10.89.0.2", "10.96.0.10"))
DNS = {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
SYSTEM = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
UDP, TCP = {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("egress", "silent"),
    [
        ([], ("udp", "tcp")),
        ([{}], ()),
        ([peers_to({**SYSTEM, **DNS}, ports=[UDP, TCP])], ()),
        ([peers_to({**SYSTEM, **DNS}, ports=[UDP])], ("tcp",)),
        ([peers_to({**SYSTEM, **DNS})], ()),
        ([peers_to(SYSTEM)], ()),
        ([peers_to(DNS)], ("udp", "tcp")),
        ([peers_to({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}})], ("udp", "tcp")),
        ([peers_to(ports=[UDP])], ("tcp",)),
        ([peers_to(ports=[{"port": 443}])], ("udp", "tcp")),
        ([peers_to(ports=[{"port": 1, "endPort": 100, "protocol": "UDP"}])], ("tcp",)),
        ([peers_to(ports=[{"port": "dns", "protocol": "UDP"}, {"port": "dns-tcp"}])], ()),
        ([peers_to({"ipBlock": {"cidr": "10.96.0.0/16"}})], ()),
        ([peers_to({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.89.0.2/32", "10.96.0.0/16"]}})], ("udp", "tcp")),
        ([peers_to({**SYSTEM, **DNS}, ports=[UDP]), peers_to(ports=[TCP])], ()),
    ],
)
def test_who_may_ask(egress: Any, silent: tuple[str, ...]) -> None:
    found = policy_of(policy("x", "p", policyTypes=["Egress"], egress=egress))
    assert refused([found], SERVER, {"kubernetes.io/metadata.name": "kube-system"}) == silent


def test_only_pods_that_are_isolated_for_egress_are_silent_and_labels_of_the_namespace_count() -> None:
    compiler = Compiler(SERVER)
    compiler.set_namespace("kube-system", {"kubernetes.io/metadata.name": "kube-system"})
    for name, address in (("a", "10.0.0.1"), ("b", "fd00::2"), ("c", "10.0.0.3")):
        compiler.attach(pod_of(pod("x", name, [])), [address])
    for name, egress in (("a", []), ("b", [peers_to({**SYSTEM, **DNS}, ports=[UDP])])):
        selector = {"matchLabels": {"pod": name}}
        made = policy_of(policy("x", name, podSelector=selector, policyTypes=["Egress"], egress=egress))
        compiler.set_policy(made.key, made)
    compiler.settle()
    sets = compiler.ruleset.sets
    assert (sets["silent4"], sets["silent6"]) == ({"10.0.0.1 . 17", "10.0.0.1 . 6"}, {"fd00::2 . 6"})
    compiler.set_namespace("kube-system", {})
    compiler.settle()
    assert sets["silent6"] == {"fd00::2 . 17", "fd00::2 . 6"}
    compiler.release("x-a", ["10.0.0.1"])
    compiler.settle()
    assert sets["silent4"] == set()
