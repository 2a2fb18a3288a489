"""The controllers of Services with real kubectl and real containers; what answers on addresses is not their part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e
READY = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}


@pytest.fixture
def services(cluster: Commands, request: pytest.FixtureRequest) -> Iterator[Commands]:
    """A namespace for the test alone, which kubectl's context names meanwhile."""
    namespace = request.node.name.removeprefix("test_").replace("_", "-")[:63].rstrip("-")
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    yield cluster
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", namespace)


def create(commands: Commands, kind: str, name: str, spec: dict[str, Any], version: str = "v1", **labels: str) -> None:
    meta = {"name": name, "labels": labels}
    body = {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
    commands.kubectl("create", "-f", "-", stdin=json.dumps(body))


def pod(commands: Commands, name: str, **labels: str) -> None:
    command = ["sh", "-c", "trap exit TERM; touch /tmp/ready; while true; do sleep 0.2; done"]
    container = {"name": "main", "image": "busybox", "command": command, "readinessProbe": READY}
    offered = [{"name": "web", "containerPort": 8080}]
    create(commands, "Pod", name, {"containers": [{**container, "ports": offered}]}, **labels)


def endpoints(commands: Commands, service: str) -> dict[str, Any]:
    """Conditions of the endpoints in the Service's slices, by pod."""
    found = commands.get("endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
    return {each["targetRef"]["name"]: each["conditions"] for one in found for each in one["endpoints"] or ()}


def reasons(commands: Commands, name: str) -> set[str]:
    found = commands.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
    return {event["reason"] for event in found}


def test_slices_follow_pods_through_readiness_and_their_end(services: Commands) -> None:
    pod(services, "one", app="web")
    pod(services, "two", app="web")
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}
    create(services, "Service", "web", spec, team="x")
    good = {"ready": True, "serving": True, "terminating": False}
    services.until(lambda: endpoints(services, "web") == {"one": good, "two": good})
    (held,) = services.get("endpointslices")["items"]
    assert held["metadata"]["labels"]["team"] == "x"
    assert held["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    addresses = {each["targetRef"]["name"]: each["addresses"] for each in held["endpoints"]}
    assert addresses["one"] == [services.get("pod", "one")["status"]["podIP"]]
    services.kubectl("exec", "two", "--", "rm", "/tmp/ready")
    services.until(
        lambda: endpoints(services, "web")["two"] == {"ready": False, "serving": False, "terminating": False}
    )
    services.kubectl("delete", "pod", "two", "--grace-period=1")
    services.until(lambda: endpoints(services, "web") == {"one": good})
    services.kubectl("delete", "service", "web")
    services.until(lambda: services.get("endpointslices")["items"] == [])
    assert services.out("get", "endpoints", "-o", "name") == ""


def test_endpoints_by_hand_are_mirrored(services: Commands) -> None:
    services.kubectl("create", "service", "clusterip", "custom", "--tcp=80")
    services.kubectl("patch", "service", "custom", "--type=merge", "-p", '{"spec":{"selector":null}}')
    subsets = [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]
    services.until(lambda: services.out("get", "endpoints", "-o", "name") != "")
    services.kubectl("patch", "endpoints", "custom", "--type=merge", "-p", json.dumps({"subsets": subsets}))
    mirror = "endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io"

    def mirrored() -> bool:
        found = services.get("endpointslices", "-l", mirror)["items"]
        return [each["addresses"] for one in found for each in one["endpoints"] or ()] == [["192.0.2.7"]]

    services.until(mirrored)
    services.kubectl("delete", "endpoints", "custom")
    services.until(lambda: services.get("endpointslices", "-l", mirror)["items"] == [])


def test_a_load_balancer_has_an_address_until_it_goes(services: Commands) -> None:
    services.kubectl("create", "service", "loadbalancer", "balanced", "--tcp=80")
    services.wait("service/balanced", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    held = services.get("service", "balanced")
    (ingress,) = held["status"]["loadBalancer"]["ingress"]
    assert ingress["ipMode"] == "VIP"
    nodes = {each["address"] for node in services.get("nodes")["items"] for each in node["status"]["addresses"]}
    assert ip_address(ingress["ip"]).is_private
    assert ingress["ip"] not in nodes
    assert held["metadata"]["finalizers"] == ["service.kubernetes.io/load-balancer-cleanup"]
    assert ingress["ip"] in services.out("get", "service", "balanced")
    services.until(lambda: {"EnsuringLoadBalancer", "EnsuredLoadBalancer"} <= reasons(services, "balanced"))
    services.kubectl("patch", "service", "balanced", "--type=merge", "-p", '{"spec":{"type":"ClusterIP"}}')
    services.until(lambda: "DeletedLoadBalancer" in reasons(services, "balanced"))
    assert "finalizers" not in services.get("service", "balanced")["metadata"]


def test_addresses_of_services_are_objects_and_ranges_can_be_added(services: Commands) -> None:
    create(services, "ServiceCIDR", "more", {"cidrs": ["192.0.2.0/28"]}, "networking.k8s.io/v1")
    services.wait("servicecidr/more", "condition=Ready")
    create(services, "Service", "far", {"clusterIP": "192.0.2.5", "ports": [{"port": 80}]})
    parent = services.get("ipaddress", "192.0.2.5")["spec"]["parentRef"]
    assert (parent["resource"], parent["name"]) == ("services", "far")
    services.kubectl("delete", "servicecidr", "more", "--wait=false")
    services.wait("servicecidr/more", "condition=Ready=False")
    services.kubectl("delete", "service", "far")
    services.kubectl("wait", "--for=delete", "servicecidr/more", "--timeout=30s")
    assert services.out("get", "ipaddress", "192.0.2.5", "--ignore-not-found") == ""


def test_nodes_have_ranges_of_their_own_and_a_ttl(services: Commands) -> None:
    nodes = services.get("nodes")["items"]
    assert len({node["spec"]["podCIDR"] for node in nodes}) == len(nodes)
    for node in nodes:
        assert node["spec"]["podCIDRs"] == [node["spec"]["podCIDR"]]
        assert node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0"
