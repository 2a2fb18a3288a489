"""A cluster of both IP families: addresses, Services, names and traffic of each; real pods on two nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e

CLUSTER = "dual"
CONTEXT = f"--context=tiphys-{CLUSTER}"


class Dual:
    """kubectl on the cluster, whatever the current context is."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands

    def get(self, *words: str) -> Any:
        return self.commands.get(*words, CONTEXT)

    def apply(self, *objects: dict[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.commands.kubectl("apply", "-f", "-", CONTEXT, stdin=json.dumps(listed))

    def run(self, pod: str, *words: str) -> str:
        return self.commands.out("exec", pod, CONTEXT, "--", *words)

    def wait(self, pod: str) -> None:
        self.commands.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=60s", CONTEXT)


def pod(name: str, node: str, **spec: Any) -> dict[str, Any]:
    """One that answers with its name on port 80 of all its addresses."""
    script = f"mkdir /w; echo {name} > /w/index.html; exec httpd -f -p [::]:80 -h /w"
    facts = {"IPS": "status.podIPs", "HOSTS": "status.hostIPs"}
    env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in facts.items()]
    ready = {"httpGet": {"port": 80}, "periodSeconds": 1}
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], "env": env}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{**container, "readinessProbe": ready}],
            **spec,
        },
    }


def service(name: str, policy: str, families: list[str], **spec: Any) -> dict[str, Any]:
    wanted = {"ipFamilyPolicy": policy, "ipFamilies": families, "selector": {"app": "web"}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**wanted, **spec}}


@pytest.fixture(scope="module")
def dual(machine: Commands, images: list[Path]) -> Iterator[Dual]:
    if Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text().strip() != "0":
        pytest.skip("IPv6 is switched off on this machine")
    arguments = ["--nodes", "2", "--ip-family", "dual", "--image", str(images[0]), "--keep-context"]
    machine.tiphys("up", CLUSTER, *arguments)
    cluster = Dual(machine)
    cluster.apply(
        pod("web-1", "node-1"),
        pod("web-2", "node-2"),
        service("four", "SingleStack", ["IPv4"]),
        service("six", "SingleStack", ["IPv6"]),
        service("both", "PreferDualStack", ["IPv4"], type="LoadBalancer"),
        service("other", "RequireDualStack", ["IPv6"], type="NodePort"),
        service("names", "RequireDualStack", ["IPv4"], clusterIP="None"),
    )
    for name in ("web-1", "web-2"):
        cluster.wait(name)
    yield cluster
    machine.tiphys("delete", CLUSTER)


def versions(addresses: list[str]) -> list[int]:
    return [ip_address(address).version for address in addresses]


def pod_ips(dual: Dual, name: str) -> list[str]:
    return [entry["ip"] for entry in dual.get("pod", name)["status"]["podIPs"]]


def fetch(dual: Dual, host: str, port: int = 80, client: str = "web-1") -> str:
    """Who answers there."""
    shown = f"[{host}]" if ":" in host else host
    return dual.run(client, "wget", "-q", "-O", "-", f"http://{shown}:{port}/")


def test_nodes_have_addresses_and_ranges_of_both_families(dual: Dual) -> None:
    for node in dual.get("nodes")["items"]:
        listed = node["status"]["addresses"]
        assert versions([one["address"] for one in listed if one["type"] == "InternalIP"]) == [4, 6]
        assert [":" in cidr for cidr in node["spec"]["podCIDRs"]] == [False, True]
        assert node["spec"]["podCIDR"] == node["spec"]["podCIDRs"][0]


def test_pods_know_their_addresses_of_both_families(dual: Dual) -> None:
    status = dual.get("pod", "web-1")["status"]
    own, hosts = ([entry["ip"] for entry in status[name]] for name in ("podIPs", "hostIPs"))
    assert versions(own) == versions(hosts) == [4, 6]
    assert (status["podIP"], status["hostIP"]) == (own[0], hosts[0])
    told = dual.run("web-1", "sh", "-c", "echo $IPS $HOSTS; cat /etc/hosts")
    assert told.splitlines()[0] == f"{','.join(own)} {','.join(hosts)}"
    assert all(f"{address}\tweb-1" in told for address in own)


def test_pods_reach_each_other_across_nodes_by_both_families(dual: Dual) -> None:
    for address in pod_ips(dual, "web-2"):
        assert fetch(dual, address) == "web-2"


def test_services_have_slices_of_each_of_their_families(dual: Dual) -> None:
    for name in ("four", "six", "both", "other", "names"):
        families = dual.get("service", name)["spec"]["ipFamilies"]
        slices = dual.get("endpointslices", "-l", f"kubernetes.io/service-name={name}")["items"]
        assert sorted(one["addressType"] for one in slices) == sorted(families)
        for one in slices:
            found = {address for endpoint in one["endpoints"] for address in endpoint["addresses"]}
            version = int(one["addressType"][-1])
            wanted = {ip for web in ("web-1", "web-2") for ip in pod_ips(dual, web) if versions([ip]) == [version]}
            assert found == wanted


def test_services_answer_at_all_their_addresses(dual: Dual) -> None:
    for name, wanted in {"four": [4], "six": [6], "both": [4, 6], "other": [6, 4]}.items():
        addresses = dual.get("service", name)["spec"]["clusterIPs"]
        assert versions(addresses) == wanted
        for address in addresses:
            assert fetch(dual, address) in ("web-1", "web-2")
    balancer = dual.get("service", "both")["status"]["loadBalancer"]["ingress"]
    assert versions([one["ip"] for one in balancer]) == [4, 6]
    port = dual.get("service", "other")["spec"]["ports"][0]["nodePort"]
    node = [one["address"] for one in dual.get("node", "node-2")["status"]["addresses"] if one["type"] == "InternalIP"]
    for address, number in [*((one["ip"], 80) for one in balancer), *((one, port) for one in node)]:
        assert fetch(dual, address, number) in ("web-1", "web-2")


def test_names_stand_for_addresses_of_both_families(dual: Dual) -> None:
    for name, wanted in {"other": [4, 6], "names": [4, 4, 6, 6], "six": [6]}.items():
        told = dual.run("web-1", "nslookup", f"{name}.default.svc.cluster.local")
        answers = re.findall(r"^Address(?: \d+)?: (\S+)$", told, re.MULTILINE)
        assert sorted(versions(answers)) == wanted
        assert fetch(dual, name) in ("web-1", "web-2")


def test_pods_in_the_nodes_network_have_its_addresses(dual: Dual) -> None:
    dual.apply(pod("host", "node-2", hostNetwork=True))
    dual.wait("host")
    assert pod_ips(dual, "host") == [entry["ip"] for entry in dual.get("pod", "host")["status"]["hostIPs"]]
    for address in pod_ips(dual, "host"):
        assert fetch(dual, address) == "host"
    dual.commands.kubectl("delete", "pod", "host", "--now", CONTEXT)


def test_the_second_family_is_released_and_taken_again(dual: Dual) -> None:
    before = dual.get("service", "both")["spec"]["clusterIPs"]
    for policy, count in (("SingleStack", 1), ("PreferDualStack", 2)):
        patch = json.dumps({"spec": {"ipFamilyPolicy": policy}})
        dual.commands.kubectl("patch", "service", "both", "-p", patch, CONTEXT)
        now = dual.get("service", "both")["spec"]["clusterIPs"]
        assert (now[0], len(now)) == (before[0], count)
    dual.commands.until(lambda: fetch(dual, now[1]) in ("web-1", "web-2"))


def test_the_family_of_a_cluster_cannot_be_changed(dual: Dual) -> None:
    done = dual.commands.tiphys("up", CLUSTER, "--ip-family", "ipv4", check=False)
    assert done.returncode != 0
    assert "was made with dual, which cannot be changed" in done.stderr
