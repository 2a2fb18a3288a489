"""What the conformance suite asks of the network, with real pods on two nodes."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.runtime import netns

pytestmark = pytest.mark.e2e

NAMESPACE = "conformance-network"
SERVE = """
mkdir /www && hostname > /www/hostname && echo '<a href="/other">other</a>' > /www/index.html
httpd -p 8090 -h /www
exec httpd -f -p 8080 -h /www
"""
SERVERS = ("one", "two")
HOST_PORT = 34321


def server(name: str, node: str, ports: tuple[dict[str, Any], ...] = (), app: str = "web") -> dict[str, Any]:
    """A pod that tells its name by HTTP at 8080 and 8090; see `telling` for UDP at 8081."""
    ready = {"httpGet": {"port": 8080, "path": "/hostname"}, "periodSeconds": 1}
    command = ["sh", "-c", SERVE]
    container = {"name": "c", "image": "busybox", "command": command, "readinessProbe": ready, "ports": list(ports)}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": spec}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def web(name: str, **spec: Any) -> dict[str, Any]:
    return service(name, selector={"app": "web"}, ports=[{"port": 80, "targetPort": 8080}], **spec)


class Network:
    """kubectl in the namespace, and sockets on the host and on nodes."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.until = commands.until

    def kubectl(self, *words: str, **more: Any) -> str:
        return self.commands.kubectl("-n", NAMESPACE, *words, **more).stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def in_pod(self, pod: str, script: str) -> str:
        return self.kubectl("exec", pod, "--", "sh", "-c", script, check=False).strip()

    def http(self, pod: str, at: str, port: int = 80) -> str:
        """Who answers a pod; "" for nobody."""
        return self.in_pod(pod, f"timeout 3 wget -q -O- http://{at}:{port}/hostname 2>/dev/null")

    def node(self, name: str) -> str:
        """The network namespace of a node."""
        (found,) = Path(self.commands.environment["TIPHYS_RUN"], "netns").glob(f"*-{name}")
        return str(found)


def asked(at: str, port: int, kind: int = socket.SOCK_STREAM, namespace: str = "") -> str:
    """Who answers the host, or a node: by HTTP or by UDP; "" for nobody."""
    made = netns.socket_in(namespace, kind=kind) if namespace else socket.socket(type=kind)
    with made as connection:
        connection.settimeout(2)
        try:
            connection.connect((at, port))
            connection.send(b"GET /hostname HTTP/1.0\r\n\r\n")
            answer = connection.recv(4096)
            while more := connection.recv(4096) if kind == socket.SOCK_STREAM else b"":
                answer += more
        except OSError:
            return ""
    return answer.decode().rpartition("\r\n")[2].strip()


def is_(what: Callable[[], Any], expected: Any) -> bool:
    return bool(what() == expected)


def variety(way: Callable[[], str]) -> int:
    """How many different ones answer."""
    return len({way() for _ in range(12)} - {""})


UDP = socket.SOCK_DGRAM


@contextlib.contextmanager
def telling(*pods: str) -> Iterator[None]:
    """Their names are told by UDP: by threads of this process, with sockets in their network namespaces."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        for pod in pods:
            namespace = f"/proc/{process_of(pod)}/ns/net"
            opened = stack.enter_context(netns.socket_in(namespace, kind=UDP))
            opened.bind(("0.0.0.0", 8081))
            pool.submit(tell, opened, pod)
            ender = stack.enter_context(netns.socket_in(namespace, kind=UDP))
            stack.callback(ender.sendto, b"", ("127.0.0.1", 8081))
        yield


def process_of(pod: str) -> int:
    """Of its web server."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text() == "httpd\n" and f"HOSTNAME={pod}\0" in (entry / "environ").read_text():
                return int(entry.name)
    raise AssertionError(f"no process of {pod}")


def tell(opened: socket.socket, name: str) -> None:
    while True:
        words, asker = opened.recvfrom(100)
        if not words:
            return
        opened.sendto(name.encode(), asker)


@pytest.fixture(scope="module")
def network(cluster: Commands) -> Iterator[Network]:
    """Two servers, each on a node of its own."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    made = Network(cluster)
    made.apply(server("one", "node-1"), server("two", "node-2"))
    made.kubectl("wait", "pod", *SERVERS, "--for=condition=Ready", "--timeout=60s")
    yield made
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_pods_are_reached_from_pods_nodes_and_the_host(network: Network) -> None:
    with telling(*SERVERS):
        for name in SERVERS:
            at = network.get("pod", name)["status"]["podIP"]
            assert {network.http(pod, at, 8080) for pod in SERVERS} == {name}
            for space in (network.node("node-1"), network.node("node-2"), ""):
                assert asked(at, 8080, namespace=space) == asked(at, 8081, UDP, space) == name


def test_slices_by_hand_of_several_addresses_and_ports(network: Network) -> None:
    ports = [{"name": "first", "port": 80}, {"name": "second", "port": 81}]
    network.apply(service("by-hand", ports=ports))
    for name, port, number in (("one", "first", 8080), ("two", "second", 8090)):
        at = network.get("pod", name)["status"]["podIP"]
        piece = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"by-hand-{name}", "labels": {"kubernetes.io/service-name": "by-hand"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [at]}],
            "ports": [{"name": port, "port": number, "protocol": "TCP"}],
        }
        network.apply(piece)
    network.until(lambda: network.http("one", "by-hand") == "one")
    network.until(lambda: network.http("one", "by-hand", 81) == "two")


def test_a_service_changes_its_type(network: Network) -> None:
    network.apply(service("changing", type="ExternalName", externalName="elsewhere.example.com"))
    named = "nslookup changing.conformance-network.svc.cluster.local"
    network.until(lambda: "elsewhere.example.com" in network.in_pod("one", named))
    ports = [{"port": 80, "targetPort": 8080}]
    to_node_port = {"type": "NodePort", "externalName": None, "selector": {"app": "web"}, "ports": ports}
    network.kubectl("patch", "service", "changing", "-p", json.dumps({"spec": to_node_port}))
    network.until(lambda: network.http("one", "changing") in SERVERS)
    port = network.get("service", "changing")["spec"]["ports"][0]["nodePort"]
    for node in network.get("nodes")["items"]:
        at = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
        network.until(partial(asked, at, port))
    back = {"type": "ExternalName", "externalName": "again.example.com"}
    network.kubectl("patch", "service", "changing", "-p", json.dumps({"spec": back}))
    assert "clusterIP" not in network.get("service", "changing")["spec"]
    network.until(lambda: "again.example.com" in network.in_pod("one", named))
    network.until(lambda: not asked(at, port))


def test_one_port_of_two_protocols(network: Network) -> None:
    tcp, udp = (
        {"name": protocol.lower(), "port": 80, "protocol": protocol, "targetPort": target}
        for protocol, target in (("TCP", 8080), ("UDP", 8081))
    )
    network.apply(service("both", selector={"app": "web"}, ports=[tcp, udp]))
    at = network.get("service", "both")["spec"]["clusterIP"]

    def answers() -> tuple[bool, bool]:
        return asked(at, 80) in SERVERS, asked(at, 80, UDP) in SERVERS

    with telling(*SERVERS):
        network.until(lambda: answers() == (True, True))
        for left, expected in ((tcp, (True, False)), (udp, (False, True))):
            change = [{"op": "replace", "path": "/spec/ports", "value": [left]}]
            network.kubectl("patch", "service", "both", "--type=json", "-p", json.dumps(change))
            network.until(partial(is_, answers, expected))


def test_affinity_is_switched_on_and_off(network: Network) -> None:
    network.apply(web("moody", type="NodePort"))
    spec = network.get("service", "moody")["spec"]
    node = network.get("node", "node-1")["status"]["addresses"][0]["address"]
    ways = [partial(asked, spec["clusterIP"], 80), partial(asked, node, spec["ports"][0]["nodePort"])]
    for affinity, expected in (("None", 2), ("ClientIP", 1), ("None", 2)):
        change = json.dumps({"spec": {"sessionAffinity": affinity}})
        network.kubectl("patch", "service", "moody", "-p", change)
        for way in ways:
            network.until(partial(is_, partial(variety, way), expected))


def test_host_ports_of_one_number_by_address_and_protocol(network: Network) -> None:
    node = network.get("node", "node-1")["status"]["addresses"][0]["address"]
    port = {"containerPort": 8080, "hostPort": HOST_PORT}
    network.apply(
        server("host-loopback", "node-1", ({**port, "hostIP": "127.0.0.1"},), "host"),
        server("host-address", "node-1", ({**port, "hostIP": node},), "host"),
        server("host-udp", "node-1", ({**port, "containerPort": 8081, "hostIP": node, "protocol": "UDP"},), "host"),
    )
    names = ("host-loopback", "host-address", "host-udp")
    network.kubectl("wait", "pod", *names, "--for=condition=Ready", "--timeout=60s")
    inside = network.node("node-1")
    with telling("host-udp"):
        assert asked("127.0.0.1", HOST_PORT, namespace=inside) == "host-loopback"
        assert asked(node, HOST_PORT, namespace=inside) == asked(node, HOST_PORT) == "host-address"
        assert asked(node, HOST_PORT, UDP, inside) == asked(node, HOST_PORT, UDP) == "host-udp"
    network.kubectl("delete", "pod", *names)
    network.until(lambda: not asked(node, HOST_PORT))


def test_pods_and_services_are_seen_through_the_api_server(network: Network) -> None:
    network.apply(web("seen"))
    prefix = f"/api/v1/namespaces/{NAMESPACE}"
    through = partial(network.kubectl, "get", "--raw", check=False)
    network.until(lambda: through(f"{prefix}/services/seen:80/proxy/hostname").strip() in SERVERS)
    assert through(f"{prefix}/pods/http:two:8080/proxy/hostname").strip() == "two"
    page = through(f"{prefix}/pods/one:8080/proxy/")
    assert f'<a href="{prefix}/pods/one:8080/proxy/other">' in page


def test_the_api_server_is_reached_by_its_name(network: Network) -> None:
    for name in ("kubernetes.default", "kubernetes.default.svc.cluster.local"):
        assert network.in_pod("two", f"nc -w 2 {name} 443 </dev/null >/dev/null && echo open") == "open"
