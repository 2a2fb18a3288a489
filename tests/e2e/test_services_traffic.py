"""Services carry traffic: real pods on two nodes, asked from pods, nodes and the host.

The rules themselves, with every kind of address and policy, are tested in test_service_rules.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.base.nftables import Nftables
from tiphys.runtime import netns

pytestmark = pytest.mark.e2e

NAMESPACE = "traffic"
GREETING = 'echo "$HOSTNAME"; exec cat'
"""What a server says to who connects: its pod's name, then what it hears."""


def server(name: str, node: str) -> dict[str, Any]:
    command = ["nc", "-ll", "-p", "8080", "-e", "sh", "-c", GREETING]
    ready = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    container = {"name": "main", "image": "busybox", "command": command, "readinessProbe": ready}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }


SERVERS = ("web-1", "web-2")


@pytest.fixture(scope="module")
def traffic(cluster: Commands) -> Iterator[Commands]:
    """Two servers, each on a node of its own, in a namespace that kubectl's context names meanwhile."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    use(cluster, NAMESPACE)
    apply(cluster, server("web-1", "node-1"), server("web-2", "node-2"))
    for name in SERVERS:
        cluster.wait(f"pod/{name}", "condition=Ready")
    yield cluster
    use(cluster, "default")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def use(commands: Commands, namespace: str) -> None:
    commands.kubectl("config", "set-context", "--current", f"--namespace={namespace}")


def apply(commands: Commands, *objects: dict[str, Any]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    commands.kubectl("apply", "-f", "-", stdin=json.dumps(listed))


def address(commands: Commands, name: str) -> str:
    return str(commands.get("service", name)["spec"]["clusterIP"])


def node_addresses(commands: Commands) -> list[str]:
    nodes = commands.get("nodes")["items"]
    return [one["address"] for node in nodes for one in node["status"]["addresses"] if one["type"] == "InternalIP"]


def heard_in(commands: Commands, pod: str, at: str, port: int = 80, times: int = 1) -> Counter[str]:
    """Who answers a pod that asks so many times; "" for nobody."""
    ask = f"for i in $(seq {times}); do echo $(nc -w 2 {at} {port} </dev/null 2>/dev/null | head -1); done"
    return Counter(commands.out("exec", pod, "--", "sh", "-c", ask).split("\n"))


def heard(at: str, port: int) -> str:
    """Who answers the host; "" for nobody."""
    try:
        with socket.create_connection((at, port), timeout=5) as connection:
            return connection.makefile().readline().strip()
    except OSError:
        return ""


def test_pods_reach_all_endpoints_by_the_cluster_ip_also_themselves(traffic: Commands) -> None:
    apply(traffic, service("web"))
    at = address(traffic, "web")
    traffic.until(lambda: set(heard_in(traffic, "web-1", at, times=12)) == set(SERVERS))
    assert set(heard_in(traffic, "web-2", at, times=12)) == set(SERVERS)


def test_node_ports_answer_on_each_node(traffic: Commands) -> None:
    apply(traffic, service("ports", type="NodePort"))
    port = traffic.get("service", "ports")["spec"]["ports"][0]["nodePort"]
    for at in node_addresses(traffic):
        traffic.until(partial(heard, at, port))
        assert {heard(at, port) for _ in range(12)} == set(SERVERS)
        assert set(heard_in(traffic, "web-1", at, port, times=12)) == set(SERVERS)


def test_the_policy_local_stays_on_the_node(traffic: Commands) -> None:
    apply(traffic, service("local", type="NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local"))
    one = traffic.get("service", "local")["spec"]
    for at, expected in zip(node_addresses(traffic), SERVERS, strict=True):
        traffic.until(partial(heard, at, one["ports"][0]["nodePort"]))
        assert {heard(at, one["ports"][0]["nodePort"]) for _ in range(6)} == {expected}
        assert set(heard_in(traffic, expected, one["clusterIP"], times=6)) == {expected}


def test_the_host_reaches_load_balancers_and_cluster_ips(traffic: Commands) -> None:
    apply(traffic, service("balanced", type="LoadBalancer"))
    traffic.until(lambda: traffic.get("service", "balanced")["status"]["loadBalancer"].get("ingress"))
    at = traffic.get("service", "balanced")["status"]["loadBalancer"]["ingress"][0]["ip"]
    traffic.until(lambda: heard(at, 80))
    assert {heard(at, 80) for _ in range(12)} == set(SERVERS)
    assert {heard(address(traffic, "balanced"), 80) for _ in range(12)} == set(SERVERS)
    assert set(heard_in(traffic, "web-1", at, times=12)) == set(SERVERS)


def test_a_client_stays_with_one_endpoint(traffic: Commands) -> None:
    apply(traffic, service("sticky", sessionAffinity="ClientIP"))
    at = address(traffic, "sticky")
    traffic.until(lambda: heard_in(traffic, "web-1", at)[""] == 0)
    assert len(heard_in(traffic, "web-1", at, times=10)) == 1
    assert len({heard(at, 80) for _ in range(10)}) == 1


def test_without_endpoints_connections_are_refused_until_there_is_one(traffic: Commands) -> None:
    apply(traffic, service("later", selector={"app": "later"}))
    at = address(traffic, "later")
    refused = f"timeout 5 nc {at} 80 </dev/null; echo $?"
    traffic.until(lambda: "refused" in traffic.kubectl("exec", "web-1", "--", "sh", "-c", refused).stderr)
    traffic.kubectl("label", "pod", "web-2", "app=later", "--overwrite")
    traffic.until(lambda: heard_in(traffic, "web-1", at) == {"web-2": 1})
    traffic.kubectl("label", "pod", "web-2", "app=web", "--overwrite")
    traffic.until(lambda: heard_in(traffic, "web-1", at) == {"": 1})


def test_connections_and_rules_outlive_the_processes(traffic: Commands) -> None:
    apply(traffic, service("lasting", type="NodePort", externalTrafficPolicy="Local"))
    one = traffic.get("service", "lasting")["spec"]
    port, at = one["ports"][0]["nodePort"], node_addresses(traffic)[0]
    traffic.until(lambda: heard(at, port))
    status = json.loads(traffic.tiphys("status", "e2e", "-o", "json").stdout)
    before = rules(traffic)
    with socket.create_connection((at, port), timeout=5) as connection:
        talk = connection.makefile("rw")
        assert talk.readline() == "web-1\n"
        for component in status["components"]:
            os.kill(component["pid"], signal.SIGKILL)
        try:
            assert said(talk, "while nobody is there")
            assert heard(at, port) == "web-1"
            assert rules(traffic) == before
        finally:
            traffic.tiphys("up", "e2e")
            use(traffic, NAMESPACE)
        assert said(talk, "when they are back")
    apply(traffic, service("later"))
    traffic.until(lambda: set(heard_in(traffic, "web-1", address(traffic, "later"), times=8)) == set(SERVERS))
    assert heard(at, port) == "web-1"


def said(talk: Any, words: str) -> bool:
    """Whether the words come back."""
    talk.write(f"{words}\n")
    talk.flush()
    return bool(talk.readline() == f"{words}\n")


def rules(commands: Commands) -> str:
    """The table of the first node."""
    (namespace,) = Path(commands.environment["TIPHYS_RUN"], "netns").glob("*-node-1")
    with Nftables(lambda work: netns.inside(str(namespace), work)) as nft:
        listed = nft.run("list table ip tiphys-services")
    return re.sub(r" expires \w+", "", listed)
