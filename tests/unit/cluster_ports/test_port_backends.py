"""Where the connections of published ports go."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.cluster.ports.backends import Backends, World, needs_pods, resolve
from tiphys.cluster.ports.published import parse


def service(name: str, *ports: dict[str, Any], namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": list(ports), **spec}}


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def endpoint_slice(kind: str, ports: list[dict[str, Any]], *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {"addressType": kind, "ports": ports, "endpoints": list(endpoints)}


def node(name: str, *addresses: str, ready: bool = True) -> dict[str, Any]:
    status = {
        "addresses": [{"type": "InternalIP", "address": each} for each in addresses],
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    return {"metadata": {"name": name}, "status": status}


def pod(where: str, port: dict[str, Any], *, host: bool = False, ready: bool = True) -> dict[str, Any]:
    spec = {"nodeName": where, "hostNetwork": host, "containers": [{"ports": [port]}]}
    return {
        "metadata": {"name": "p"},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def world(services: list[dict[str, Any]], *slices: dict[str, Any], **more: Any) -> World:
    return World(services, lambda namespace, name: slices, **more)


HTTP = {"name": "http", "port": 80, "targetPort": "web"}
SLICE = endpoint_slice("IPv4", [{"name": "http", "port": 8000}], endpoint("10.0.0.2"), endpoint("10.0.0.1", ready=True))


@pytest.mark.parametrize("target", ["web:80", "web:http"])
def test_a_service_leads_to_its_ready_endpoints(target: str) -> None:
    found = resolve(parse(f"8080:{target}"), world([service("web", HTTP)], SLICE))
    assert found == Backends((("10.0.0.1", 8000), ("10.0.0.2", 8000)))


def test_a_service_of_client_affinity_is_sticky() -> None:
    assert resolve(parse("1:web:80"), world([service("web", HTTP, sessionAffinity="ClientIP")], SLICE)).sticky


def test_endpoints_that_end_are_used_only_where_no_others_are() -> None:
    leaving = endpoint("10.0.0.9", ready=False, serving=True, terminating=True)
    broken = endpoint("10.0.0.8", ready=False, serving=False)
    ports = [{"name": "http", "port": 8000}]
    both = world([service("web", HTTP)], endpoint_slice("IPv4", ports, leaving, broken, endpoint("10.0.0.1")))
    assert resolve(parse("1:web:80"), both).backends == (("10.0.0.1", 8000),)
    last = world([service("web", HTTP)], endpoint_slice("IPv4", ports, leaving, broken))
    assert resolve(parse("1:web:80"), last).backends == (("10.0.0.9", 8000),)


def test_the_ip_version_of_the_hosts_address_is_preferred() -> None:
    slices = [
        endpoint_slice("IPv4", [{"name": "http", "port": 8000}], endpoint("10.0.0.1")),
        endpoint_slice("IPv6", [{"name": "http", "port": 8000}], endpoint("fd00::1")),
    ]
    there = [service("web", HTTP)]
    assert resolve(parse("1:web:80"), world(there, *slices)).backends == (("10.0.0.1", 8000),)
    assert resolve(parse("[::1]:1:web:80"), world(there, *slices)).backends == (("fd00::1", 8000),)
    assert resolve(parse("[::1]:1:web:80"), world(there, slices[0])).backends == (("10.0.0.1", 8000),)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("1:other:80", "Service default/other does not exist"),
        ("1:x/web:80", "Service x/web does not exist"),
        ("1:web:81", "Service default/web has no TCP port 81"),
        ("1:web:80/udp", "Service default/web has no UDP port 80"),
        ("1:web:80", "Service default/web has no ready endpoints"),
        ("1:80", "Service kube-system/ingress does not exist"),
        ("1:8000", "no node is ready"),
    ],
)
def test_what_is_missing_is_told(text: str, missing: str) -> None:
    assert resolve(parse(text), world([service("web", HTTP)])) == Backends(missing=missing)


def test_80_is_the_ingress_service() -> None:
    ingress = service("ingress", {"port": 80}, namespace="kube-system")
    there = endpoint_slice("IPv4", [{"port": 10080}], endpoint("10.89.0.1"))
    assert resolve(parse("8080:80"), world([ingress], there)).backends == (("10.89.0.1", 10080),)


def test_a_node_port_is_its_services_endpoints() -> None:
    there = world([service("web", HTTP | {"nodePort": 30080})], SLICE)
    assert resolve(parse("8080:30080"), there).backends == (("10.0.0.1", 8000), ("10.0.0.2", 8000))
    assert resolve(parse("8080:30080/udp"), there).missing == "no node is ready"


@pytest.mark.parametrize(("port", "host"), [({"hostPort": 9000}, False), ({"containerPort": 9000}, True)])
def test_another_number_is_the_node_whose_pod_has_it(port: dict[str, Any], host: bool) -> None:
    nodes = [node("a", "10.89.0.2"), node("b", "10.89.0.3"), node("c", "10.89.0.4", ready=False)]
    there = world([], nodes=nodes, pods=[pod("b", port, host=host), pod("a", port, host=host, ready=False)])
    assert resolve(parse("1:9000"), there).backends == (("10.89.0.3", 9000),)
    nobody = world([], nodes=nodes)
    assert resolve(parse("1:9000"), nobody).backends == (("10.89.0.2", 9000),)


def test_pods_are_looked_at_only_for_ports_of_nodes() -> None:
    assert not needs_pods([parse("1:80"), parse("1:web:9000")])
    assert needs_pods([parse("1:80"), parse("1:9000")])
