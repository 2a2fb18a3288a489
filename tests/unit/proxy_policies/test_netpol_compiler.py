"""What the compiler asks of the kernel: as little as there can be, and never for a wrong pod."""

from __future__ import annotations

from typing import Any

from netpol_world import Packet, passes, peers_from, pod, policy
from tiphys.proxy.policies import diff
from tiphys.proxy.policies.compiler import Compiler
from tiphys.proxy.policies.facts import pod_of
from tiphys.proxy.policies.policy import policy_of
from tiphys.proxy.policies.ruleset import Ruleset

A, B = "10.0.0.1", "10.0.1.1"


class Node:
    """A compiler and what was applied of it."""

    def __init__(self) -> None:
        self.compiler = Compiler()
        self.applied = Ruleset()
        self.compiler.set_namespace("x", {})

    def policy(self, name: str, **spec: Any) -> None:
        parsed = policy_of(policy("x", name, **spec))
        self.compiler.set_policy(parsed.key, parsed)

    def pod(self, name: str, address: str, *, local: bool = False, **more: Any) -> None:
        found = pod_of(pod("x", name, [address], **more))
        self.compiler.set_pod(found.uid, found)
        if local:
            self.compiler.attach(found, found.addresses)

    def lines(self) -> list[str]:
        """What is to be done now."""
        self.compiler.settle()
        done = diff.changes("t", self.applied, self.compiler.ruleset, self.compiler.touched)
        diff.advance(self.applied, self.compiler.ruleset, self.compiler.touched)
        self.compiler.touched.clear()
        return [line for one in done for line in one]

    def passes(self, source: str, target: str, protocol: str = "TCP", port: int = 80) -> bool:
        self.compiler.settle()
        return passes(Packet(source, target, protocol, port), self.compiler.ruleset)


def test_policies_that_are_about_no_pod_of_the_node_ask_for_nothing() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from({"podSelector": {}})])
    node.pod("b", B)
    assert node.lines() == []


def test_a_peer_more_is_one_element() -> None:
    node = Node()
    for name in ("p", "q"):
        node.policy(name, ingress=[peers_from({"podSelector": {}}, ports=[{"port": len(name)}])])
    node.pod("a", A, local=True)
    node.lines()
    node.pod("b", B, ports=())
    (line,) = node.lines()
    assert line.startswith("add element inet t peers4-")
    assert line.endswith("{ 10.0.1.1 }")


def test_a_change_that_is_none_asks_for_nothing() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from({"podSelector": {}})])
    node.pod("a", A, local=True)
    node.pod("b", B)
    node.lines()
    node.pod("b", B, revision=7)
    node.policy("p", ingress=[peers_from({"podSelector": {"matchLabels": {}}})], revision=9)
    assert node.lines() == []


def test_a_policy_that_changes_gets_a_new_chain_before_anybody_is_led_there() -> None:
    node = Node()
    node.policy("p")
    node.pod("a", A, local=True)
    node.lines()
    node.policy("p", ingress=[{}])
    verbs = [" ".join((*line.split()[:2], line.split()[4].partition("-")[0])) for line in node.lines()]
    assert verbs.index("add rule ingress") < verbs.index("add element ingress4") < verbs.index("delete chain ingress")


def test_who_has_an_address_on_this_node_is_known_best_here() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from({"podSelector": {"matchLabels": {"pod": "b"}}})])
    node.pod("a", A, local=True)
    node.pod("b", B)
    assert node.passes(B, A)
    node.compiler.attach(pod_of(pod("x", "c", [])), [B])
    assert not node.passes(B, A)
    node.compiler.release("x-c", [B])
    assert node.passes(B, A)


def test_elsewhere_the_pod_counts_that_came_last_and_is_not_going() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from({"podSelector": {"matchLabels": {"pod": "b"}}})])
    node.pod("a", A, local=True)
    node.pod("b", B)
    newer = pod("x", "c", [B])
    newer["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    node.compiler.set_pod("x-c", pod_of(newer))
    assert not node.passes(B, A)
    newer["metadata"]["deletionTimestamp"] = "2026-01-03T00:00:00Z"
    node.compiler.set_pod("x-c", pod_of(newer))
    assert node.passes(B, A)


def test_a_pod_that_is_gone_from_the_api_stays_isolated_until_its_address_is_released() -> None:
    node = Node()
    node.policy("p")
    node.pod("a", A, local=True)
    node.compiler.set_pod("x-a", None)
    assert not node.passes(B, A)
    node.policy("q", ingress=[{}])
    assert node.passes(B, A)
    node.compiler.set_policy("x/q", None)
    assert not node.passes(B, A)
    node.compiler.release("x-a", [A])
    assert node.passes(B, A)


def test_a_finished_pod_is_isolated_yet_and_nobodys_peer() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from({"podSelector": {}})])
    node.pod("a", A, local=True)
    node.pod("c", "10.0.0.3", local=True)
    assert node.passes("10.0.0.3", A)
    node.pod("c", "10.0.0.3", phase="Failed", revision=5)
    assert not node.passes("10.0.0.3", A)
    assert not node.passes(B, "10.0.0.3")


def test_of_a_namespace_that_is_not_known_yet_nobody_is_a_peer() -> None:
    node = Node()
    everywhere = {"namespaceSelector": {"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]}}
    node.policy("p", ingress=[peers_from(everywhere)])
    node.pod("a", A, local=True)
    node.pod("b", B)
    assert node.passes(B, A)
    node.compiler.set_namespace("x", None)
    assert not node.passes(B, A)


def test_a_named_port_is_the_servers_own_and_differs_from_pod_to_pod() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from(ports=[{"port": "web"}])])
    node.pod("a", A, local=True, ports=[{"name": "web", "containerPort": 8080}])
    node.pod("c", "10.0.0.3", local=True, ports=[{"name": "web", "containerPort": 9090}])
    assert node.passes(B, A, port=8080)
    assert not node.passes(B, A, port=9090)
    assert node.passes(B, "10.0.0.3", port=9090)
    assert not node.passes(B, A, "UDP", 8080)


def test_a_pod_of_which_nothing_is_known_is_closed_where_there_are_policies() -> None:
    node = Node()
    node.compiler.close("x", "lost", [A])
    assert node.passes(B, A)
    node.policy("p", podSelector={"matchLabels": {"pod": "other"}})
    assert not node.passes(B, A)
    assert not node.passes(A, B)
    node.compiler.attach(pod_of(pod("x", "found", [A])), [A])
    assert node.passes(B, A)


def test_everything_goes_with_the_last_policy() -> None:
    node = Node()
    node.policy("p", ingress=[peers_from({"namespaceSelector": {}}, ports=[{"port": "serve-80-tcp"}])], egress=[{}])
    node.pod("a", A, local=True)
    node.lines()
    node.compiler.set_policy("x/p", None)
    node.lines()
    assert node.compiler.ruleset.empty
    assert node.compiler.ruleset == node.applied == Ruleset()
