"""Network policies against real packets: all pairs of upstream's nine pods, and what a connection goes through."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.runtime.links import Pod, families, nodes, pod
from e2e.runtime.policy_packets import Matrix, connects, is_kept_out, opener
from netpol_world import peers_from, peers_to, policy
from tiphys.proxy.policies.kernel import TABLE
from tiphys.proxy.policies.render import NAME_SERVER_PORT
from tiphys.runtime import netns
from tiphys.runtime.node import NodeNetwork

__all__ = ["families", "nodes", "pod"]
pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("families", ["dual"], indirect=True)]

Object = dict[str, Any]


@pytest.fixture
def matrix(nodes: list[NodeNetwork], pod: Callable[..., Pod]) -> Iterator[Matrix]:
    made = Matrix(nodes, pod)
    yield made
    made.close()


def select(key: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}


def cases(matrix: Matrix) -> dict[str, list[Object]]:
    """By the names of upstream's specs, roughly."""
    x_a: Any = {"podSelector": {"matchLabels": {"pod": "a"}}}
    y, b_of_y = {"namespaceSelector": select("ns", "y")}, {"namespaceSelector": select("ns", "y"), **_pods("b")}
    one = matrix.address("z-c", 4)
    block = {"ipBlock": {"cidr": f"{one.rpartition('.')[0]}.0/24", "except": [f"{one}/32"]}}
    both = ["Ingress", "Egress"]
    return {
        "default deny ingress": [policy("x", "p")],
        "default deny all": [policy("x", "p", policyTypes=both)],
        "from pods of the namespace": [policy("x", "p", ingress=[peers_from({"podSelector": {}})])],
        "from a namespace or pods": [policy("x", "p", ingress=[peers_from(y, _pods("b", "c"))])],
        "from pods of a namespace": [policy("x", "p", **x_a, ingress=[peers_from(b_of_y)])],
        "on a port": [policy("x", "p", **x_a, ingress=[peers_from(y, ports=[{"port": 81}])])],
        "on a range": [policy("x", "p", ingress=[peers_from(ports=[{"port": 79, "endPort": 80}])])],
        "on a named port": [policy("x", "p", ingress=[peers_from(y, ports=[{"port": "serve-80-tcp"}])])],
        "udp only": [policy("x", "p", ingress=[peers_from(ports=[{"protocol": "UDP"}])])],
        "sctp is not tcp": [policy("x", "p", ingress=[peers_from(ports=[{"protocol": "SCTP", "port": 80}])])],
        "egress to a named port": [policy("x", "p", egress=[peers_to(ports=[{"port": "serve-80-udp"}])])],
        "egress to pods": [policy("x", "p", **x_a, policyTypes=["Egress"], egress=[peers_to(b_of_y)])],
        "egress to a block": [policy("x", "p", policyTypes=["Egress"], egress=[peers_to(block)])],
        "stacked": [policy("x", "p", ingress=[peers_from(y)]), policy("x", "q", **x_a, ingress=[{}])],
        "both sides": [policy("x", "p", egress=[peers_to(y)]), policy("y", "q", ingress=[peers_from(_pods("a"))])],
        "none": [],
    }


def _pods(*names: str) -> Object:
    return {"podSelector": select("pod", *names)}


def test_all_pairs_of_pods_reach_each_other_as_promised(matrix: Matrix) -> None:
    for name, policies in cases(matrix).items():
        matrix.apply(*policies)
        for family in (4, 6):
            assert matrix.reached(family) == matrix.expected(family), (name, family)


def test_labels_that_change_take_effect_at_once(matrix: Matrix) -> None:
    matrix.apply(policy("x", "p", podSelector=select("pod", "a"), ingress=[peers_from(_pods("b"))]))
    for key, label in (("x-c", "b"), ("x-b", "z"), ("x-a", "free"), ("x-b", "a")):
        matrix.relabel(key, {"pod": label})
        assert matrix.reached(4) == matrix.expected(4)


def test_a_policy_cuts_connections_that_it_does_not_allow_in_both_directions(matrix: Matrix) -> None:
    for key in ("y-a", "x-b"):
        matrix.apply()
        client = netns.socket_in(matrix.namespaces[key], socket.AF_INET)
        client.settimeout(5)
        with client:
            client.connect((matrix.address("x-a", 4), 80))
            with _accepted(matrix.servers["x-a"][0]) as server:
                server.send(b"1")
                assert client.recv(1) == b"1"
                matrix.apply(policy("x", "p", podSelector=select("pod", "a")))
                for sender, receiver in ((server, client), (client, server)):
                    sender.send(b"2")
                    receiver.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        receiver.recv(1)
                matrix.apply(policy("x", "p", ingress=[peers_from(_everywhere("a", "b"))]))
                client.settimeout(5)
                assert client.recv(1) == b"2"


def _everywhere(*names: str) -> Object:
    return {"namespaceSelector": {}, **_pods(*names)}


def _accepted(server: socket.socket) -> socket.socket:
    server.setblocking(True)
    server.settimeout(5)
    try:
        connection, _ = server.accept()
    finally:
        server.setblocking(False)
    connection.settimeout(5)
    return connection


def test_the_node_reaches_its_own_pods_and_others_only_by_address(matrix: Matrix, nodes: list[NodeNetwork]) -> None:
    target = matrix.address("x-a", 4)
    matrix.apply(policy("x", "p"))
    assert connects(nodes[0].namespace, target)
    assert is_kept_out(nodes[1].namespace, target)
    assert is_kept_out("/proc/self/ns/net", target)
    gateway = nodes[0].cluster.gateways[[":" in one for one in nodes[0].cluster.gateways].index(False)]
    host, node = ({"ipBlock": {"cidr": f"{one}/32"}} for one in (gateway, _v4(nodes[1].addresses)))
    matrix.apply(policy("x", "p", ingress=[peers_from(host)]))
    assert connects("/proc/self/ns/net", target)
    assert is_kept_out(nodes[1].namespace, target)
    matrix.apply(policy("x", "p", ingress=[peers_from(node)]))
    assert connects(nodes[1].namespace, target)


def _v4(addresses: tuple[str, ...]) -> str:
    return next(one for one in addresses if ":" not in one)


SERVICE = "203.0.113.10"


def test_services_are_judged_by_who_answers_and_who_asks(matrix: Matrix, nodes: list[NodeNetwork]) -> None:
    """Egress sees the endpoint, ingress the client's own address; a pod reaches itself by its Service."""
    lines = [
        f"add rule ip svc pre ip daddr {SERVICE} tcp dport 8080 dnat to {matrix.address('y-a', 4)}:80",
        f"add rule ip svc pre ip daddr {SERVICE} tcp dport 9090 dnat to {matrix.address('x-a', 4)}:80",
        "add chain ip svc post { type nat hook postrouting priority 100; }",
        f"add rule ip svc post ip saddr {matrix.address('x-a', 4)} ip daddr {matrix.address('x-a', 4)} masquerade",
    ]
    for node in nodes:
        with opener(node.namespace)() as nft:
            nft.run("\n".join(lines))
    x_a = matrix.namespaces["x-a"]
    to_y = peers_to({"namespaceSelector": select("ns", "y")}, ports=[{"port": 80}])
    matrix.apply(policy("x", "p", policyTypes=["Egress"], egress=[to_y]))
    assert connects(x_a, SERVICE, 8080)
    assert is_kept_out(matrix.namespaces["x-b"], SERVICE, 9090)
    assert connects(x_a, SERVICE, 9090), "by its Service to itself"
    matrix.apply(policy("y", "p", ingress=[peers_from({"namespaceSelector": {}, **_pods("b")})]))
    assert is_kept_out(x_a, SERVICE, 8080)
    assert connects(matrix.namespaces["x-b"], SERVICE, 8080)


def test_the_name_server_of_the_node_is_asked_only_by_those_that_policies_let(
    matrix: Matrix, nodes: list[NodeNetwork]
) -> None:
    server = netns.socket_in(nodes[0].namespace, socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((_v4(nodes[0].addresses), NAME_SERVER_PORT))
    dns = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    asked = [{"port": 53, "protocol": "UDP"}]
    with server, netns.socket_in(matrix.namespaces["x-a"], socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(server.getsockname())
        for number, (rules, heard) in enumerate(
            [([], False), ([peers_to(dns, ports=asked)], True), ([peers_to(ports=[{"port": 53}])], False), ([{}], True)]
        ):
            for compiler in matrix.compilers:
                compiler.set_namespace("kube-system", {})
            matrix.apply(policy("x", "p", policyTypes=["Egress"], egress=rules))
            client.send(bytes([number]))
            server.settimeout(5 if heard else 0.2)
            if heard:
                assert server.recv(10) == bytes([number])
            else:
                with pytest.raises(TimeoutError):
                    server.recv(10)


def test_packets_outside_any_connection_do_not_get_through(matrix: Matrix) -> None:
    """Not even where a rule would let the same packet pass within one."""
    matrix.apply(policy("x", "p", ingress=[peers_from(ports=[{"port": 80}])]))
    target = matrix.address("x-a", 4)
    raw = netns.inside(matrix.namespaces["x-a"], lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6))
    with raw:
        raw.settimeout(0.3)
        spoofed = netns.inside(matrix.namespaces["y-b"], lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6))
        with spoofed:
            spoofed.sendto(b"\x00\x50\x00\x50" + b"\0" * 8 + b"\x00\x3f" + b"\0" * 6, (target, 0))  # no TCP header
            with pytest.raises(TimeoutError):
                raw.recv(100)


def test_never_a_packet_passes_while_rules_change_all_the_time(matrix: Matrix) -> None:
    """Every state that there is for a moment forbids y-b; so do the transitions."""
    target = matrix.address("x-a", 4)
    received = netns.socket_in(matrix.namespaces["x-a"], socket.AF_INET, socket.SOCK_DGRAM)
    received.bind((target, 5000))
    received.setblocking(False)
    senders = [netns.socket_in(matrix.namespaces[key], socket.AF_INET, socket.SOCK_DGRAM) for key in ("y-b", "y-a")]
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            for sender in senders:
                sender.sendto(b"secret", (target, 5000))

    variants = [
        [policy("x", "p"), policy("x", "q", ingress=[peers_from(_everywhere("c"))])],
        [policy("x", "p", ingress=[peers_from(_everywhere("c"), ports=[{"port": "serve-80-tcp"}])])],
        [policy("x", "q", ingress=[peers_from(_everywhere("c"))], policyTypes=["Ingress", "Egress"])],
        [policy("x", "p", ingress=[peers_from({"ipBlock": {"cidr": "192.0.2.0/24"}})])],
    ]
    matrix.apply(*variants[0])
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(40):
            for number, policies in enumerate(variants):
                matrix.apply(*policies)
                matrix.relabel("z-a", {"pod": "abc"[number % 3]})
            matrix.kernels[0].forget()  # as after a restart
        with pytest.raises(BlockingIOError):
            received.recv(100)
        matrix.apply(policy("x", "p", ingress=[{}]))
        received.settimeout(5)
        assert received.recv(100) == b"secret"
    finally:
        over.set()
        thread.join()
        for one in (*senders, received):
            one.close()


def test_what_is_there_is_adopted_and_the_table_goes_with_the_last_policy(
    matrix: Matrix, nodes: list[NodeNetwork]
) -> None:
    listed = [one for policies in cases(matrix).values() for one in policies if one["metadata"]["name"] == "p"]
    names = ("1.st", "2-" + "n" * 240, "drop", "x.y-z")
    matrix.apply(
        *({**one, "metadata": {**one["metadata"], "name": f"{names[n % 4]}{n}"}} for n, one in enumerate(listed))
    )
    for compiler, kernel in zip(matrix.compilers, matrix.kernels, strict=True):
        kernel.read()
        assert kernel.plan(compiler.ruleset, kernel.everything(compiler.ruleset)) == []
    matrix.apply()
    for node in nodes:
        with opener(node.namespace)() as nft:
            assert TABLE not in nft.run("list tables")
