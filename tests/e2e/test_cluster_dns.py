"""Names as pods see them: what the conformance tests of cluster DNS look up, by real resolvers in real containers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from dns_world import query, records
from e2e.commands import Commands
from tiphys.dns.wire import TC, Message, read_message

pytestmark = pytest.mark.e2e
NS = "names"
ZONE = f"{NS}.svc.cluster.local"
PORTS = [{"name": "http", "port": 80, "protocol": "TCP"}]
SLEEP = {"name": "main", "image": "busybox", "command": ["sleep", "3600"]}


def obj(kind: str, name: str, spec: dict[str, Any], **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NS, "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}


def pod(name: str, label: str = "", **spec: Any) -> dict[str, Any]:
    whole = {"containers": [SLEEP], "terminationGracePeriodSeconds": 0, **spec}
    return obj("Pod", name, whole, **({"app": label} if label else {}))


CUSTOM = {
    "nameservers": ["1.1.1.1"],
    "searches": ["resolv.conf.local"],
    "options": [{"name": "ndots", "value": "2"}],
}
OBJECTS = [
    obj("Service", "headless", {"clusterIP": "None", "selector": {"app": "querier"}, "ports": PORTS}),
    obj("Service", "regular", {"selector": {"app": "querier"}, "ports": PORTS}),
    obj("Service", "1digit", {"ports": [{"port": 443}]}),
    obj("Service", "outside", {"type": "ExternalName", "externalName": "foo.example.com"}),
    obj("Service", "inside", {"type": "ExternalName", "externalName": f"regular.{ZONE}"}),
    pod("querier", "querier", hostname="dns-querier-1", subdomain="headless"),
    pod("host", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
    pod("custom", dnsPolicy="None", dnsConfig=CUSTOM),
]


@pytest.fixture(scope="module")
def names(cluster: Commands) -> Iterator[Commands]:
    """The objects above, all ready."""
    cluster.kubectl("create", "namespace", NS)
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    cluster.kubectl("wait", "-n", NS, "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", NS)


def inside(commands: Commands, pod: str, *words: str, check: bool = True) -> str:
    return commands.kubectl("exec", "-n", NS, pod, "--", *words, check=check).stdout


def all_looked_up(commands: Commands, pod: str, *questions: tuple[str, str]) -> str:
    """What nslookup says of names and types, all in one."""
    script = "; ".join(f"nslookup -type={kind} {name} | tail -n +3" for name, kind in questions)
    return inside(commands, pod, "sh", "-c", script, check=False)


def looked_up(commands: Commands, pod: str, name: str, kind: str = "a") -> str:
    """What nslookup says of it, without who was asked."""
    return inside(commands, pod, "nslookup", f"-type={kind}", name, check=False).partition("\n\n")[2].strip()


def address_of(commands: Commands, kind: str, name: str, path: str) -> str:
    return commands.out("get", "-n", NS, kind, name, "-o", f"jsonpath={{{path}}}")


def ask(commands: Commands, packet: bytes) -> Message:
    """By TCP, of the first node's server itself."""
    found = commands.get("endpointslice", "-n", "kube-system", "kube-dns-ipv4")
    address, port = found["endpoints"][0]["addresses"][0], found["ports"][0]["port"]
    with socket.create_connection((address, port), 5) as connection:
        connection.sendall(len(packet).to_bytes(2, "big") + packet)
        stream = connection.makefile("rb")
        return read_message(stream.read(int.from_bytes(stream.read(2), "big")))


@pytest.mark.parametrize("who", ["querier", "host"])
def test_services_and_pods_are_found_by_name(names: Commands, who: str) -> None:
    pod_ip = address_of(names, "pod", "querier", ".status.podIP")
    cluster_ip = address_of(names, "service", "regular", ".spec.clusterIP")
    names.until(lambda: pod_ip in looked_up(names, who, f"headless.{ZONE}"))
    expected = {
        (f"dns-querier-1.headless.{ZONE}", "a"): f"Name:\tdns-querier-1.headless.{ZONE}\nAddress: {pod_ip}\n",
        (f"regular.{ZONE}", "a"): f"Name:\tregular.{ZONE}\nAddress: {cluster_ip}\n",
        (f"1digit.{ZONE}", "a"): address_of(names, "service", "1digit", ".spec.clusterIP"),
        ("kubernetes.default.svc.cluster.local", "a"): "Name:\tkubernetes.default.svc.cluster.local\nAddress: 10.",
        (f"_http._tcp.headless.{ZONE}", "srv"): f"0 100 80 dns-querier-1.headless.{ZONE}",
        (f"_http._tcp.regular.{ZONE}", "srv"): f"0 100 80 regular.{ZONE}",
        (ip_address(cluster_ip).reverse_pointer, "ptr"): f"name = regular.{ZONE}",
        (f"nobody.{ZONE}", "a"): f"can't find nobody.{ZONE}: NXDOMAIN",
    }
    shown = all_looked_up(names, who, *expected)
    assert [text for text in expected.values() if text not in shown] == []


def test_short_names_are_found_by_search_path(names: Commands) -> None:
    """As getaddrinfo asks: ping needs no answer for that."""
    for name in ("kubernetes.default", "headless", f"headless.{NS}", "headless.names.svc", "inside"):
        shown = inside(names, "querier", "ping", "-c", "1", "-W", "1", name, check=False)
        assert shown.startswith(f"PING {name} (10."), shown


def test_external_names_are_aliases_until_they_become_services(names: Commands) -> None:
    cluster_ip = address_of(names, "service", "regular", ".spec.clusterIP")
    assert cluster_ip in looked_up(names, "querier", f"inside.{ZONE}")
    assert "canonical name = foo.example.com" in looked_up(names, "querier", f"outside.{ZONE}", "cname")
    names.kubectl("patch", "-n", NS, "service", "outside", "-p", '{"spec":{"externalName":"bar.example.com"}}')
    names.until(lambda: "bar.example.com" in looked_up(names, "querier", f"outside.{ZONE}", "cname"))
    own = {"spec": {"type": "ClusterIP", "externalName": None, "ports": PORTS}}
    names.kubectl("patch", "-n", NS, "service", "outside", "-p", json.dumps(own))
    address = address_of(names, "service", "outside", ".spec.clusterIP")
    names.until(lambda: address in looked_up(names, "querier", f"outside.{ZONE}"))


def test_the_pods_own_name_is_in_its_hosts_file(names: Commands) -> None:
    pod_ip = address_of(names, "pod", "querier", ".status.podIP")
    assert f"{pod_ip}\tdns-querier-1.headless.{ZONE}\tdns-querier-1" in inside(names, "querier", "cat", "/etc/hosts")
    assert inside(names, "querier", "hostname", "-f").strip() == f"dns-querier-1.headless.{ZONE}"


def test_every_policy_has_its_resolv_conf(names: Commands) -> None:
    server = names.out("get", "service", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIP}")
    for who in ("querier", "host"):
        lines = inside(names, who, "cat", "/etc/resolv.conf").splitlines()
        assert lines[0].startswith(f"search {ZONE} svc.cluster.local cluster.local")
        assert lines[1:] == [f"nameserver {server}", "options ndots:5"]
    expected = "search resolv.conf.local\nnameserver 1.1.1.1\noptions ndots:2\n"
    assert inside(names, "custom", "cat", "/etc/resolv.conf") == expected


def test_answers_by_tcp_are_whole(names: Commands) -> None:
    addresses = [{"addresses": [f"192.0.2.{number}"]} for number in range(100)]
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "many", "namespace": NS, "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4",
        "endpoints": addresses,
        "ports": PORTS,
    }
    names.kubectl("apply", "-f", "-", stdin=json.dumps(obj("Service", "many", {"clusterIP": "None", "ports": PORTS})))
    names.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    names.until(lambda: len(ask(names, query(f"many.{ZONE}")).answers) == 100)
    answer = ask(names, query(f"many.{ZONE}"))
    assert not answer.flags & TC
    assert len(set(records(answer))) == 100


def test_the_service_comes_back_when_it_is_deleted(names: Commands) -> None:
    names.kubectl("delete", "service", "-n", "kube-system", "kube-dns")
    names.until(lambda: "Address: 10." in looked_up(names, "querier", "kubernetes.default.svc.cluster.local"))
