"""`tiphys proxy` beside an API server, both in a network namespace of their own: what a node with kube-proxy does."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import CLOCK, Commands
from tiphys.base.nftables import Nftables
from tiphys.runtime import netns

pytestmark = pytest.mark.e2e
LIMIT = 30.0
NODE, ONE, OTHER, EXTERNAL = "10.240.0.1", "10.1.0.1", "10.1.0.2", "198.51.100.5"


class World:
    """A namespace with an API server; the node's and the endpoints' addresses are on its loopback device."""

    def __init__(self, commands: Commands, namespace: Path) -> None:
        self.commands, self.namespace = commands, str(namespace)
        with netns.netlink_in(self.namespace) as link:
            for address in (NODE, ONE, OTHER):
                link.add_address(1, f"{address}/32")
            link.add_route("10.96.0.0/16", index=1)
            link.add_route("198.51.100.0/24", index=1)
        self.processes: list[subprocess.Popen[bytes]] = []
        (commands.home / "tokens").write_text("secret,admin,1,system:masters\n")
        server = self.start(
            *("apiserver", "--secure-port", "6443", "--bind-address", "127.0.0.1"),
            *("--data-dir", str(commands.home / "server"), "--token-auth-file", str(commands.home / "tokens")),
        )
        self.wait_for(server, "serving on")
        commands.kubeconfig.write_text(json.dumps(self._kubeconfig()))

    def _kubeconfig(self) -> dict[str, Any]:
        authority = str(next((self.commands.home / "server").rglob("ca.crt")))
        cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = ["nsenter", f"--net={self.namespace}", sys.executable, "-m", "tiphys", *words]
        process = subprocess.Popen(command, env=self.commands.environment, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def wait_for(self, process: subprocess.Popen[bytes], text: str) -> None:
        assert process.stderr is not None
        log = ""
        while text not in log:
            ready, _, _ = select.select([process.stderr], [], [], LIMIT)
            data = os.read(process.stderr.fileno(), 65536) if ready else b""
            assert data, f"{text!r} is not in:\n{log}"
            log += data.decode()

    def kubectl(self, *words: str, stdin: Any = None) -> str:
        words = (f"--net={self.namespace}", self.commands.kubectl_program, *words)
        text = json.dumps(stdin) if stdin is not None else None
        done = subprocess.run(
            ["nsenter", *words], env=self.commands.environment, input=text, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("create", "-f", "-", "-o", "json", stdin=obj)))

    def ask(self, address: str, port: int, path: str) -> tuple[int, str]:
        """(status, body) of an HTTP GET from inside; status 0 while nobody answers."""
        with netns.socket_in(self.namespace) as asking:
            asking.settimeout(1)
            try:
                asking.connect((address, port))
                asking.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
            except OSError:
                return 0, ""
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    namespace = tmp_path / "netns"
    netns.persist(namespace)
    netns.loopback_up(str(namespace))
    made = World(Commands(tmp_path, tmp_path / "run"), namespace)
    yield made
    made.close()
    netns.drop(namespace)


def node() -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": NODE}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": addresses}}


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 53, "protocol": "UDP", "targetPort": 5353}]
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}}


def endpoint_slice(name: str, address: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"port": 5353, "protocol": "UDP"}],
        "endpoints": [{"addresses": [address], "nodeName": "n1", "conditions": {"ready": True}}],
    }


def until(question: str, done: Any) -> None:
    deadline = CLOCK.monotonic() + LIMIT
    while not done():
        assert CLOCK.monotonic() < deadline, question
        CLOCK.pause(0.05)


def test_the_proxy_alone_does_what_kube_proxy_does(world: World) -> None:
    world.create(node())
    proxy = world.start(
        *(
            "proxy",
            "--kubeconfig",
            str(world.commands.kubeconfig),
            "--hostname-override",
            "N1",
            "--proxy-mode=nftables",
        ),
        *("--cluster-cidr=10.1.0.0/16", "--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1:10256"),
    )
    until("healthy", lambda: world.ask("127.0.0.1", 10256, "/healthz")[0] == 200)
    assert world.ask("127.0.0.1", 10249, "/proxyMode") == (200, "nftables")
    assert json.loads(world.ask("127.0.0.1", 10249, "/configz")[1])["kubeproxy.config.k8s.io"]["mode"] == "nftables"
    _follow_endpoints(world)
    _answer_load_balancers(world)
    metrics = world.ask("127.0.0.1", 10249, "/metrics")[1]
    assert re.search(r"^kubeproxy_sync_proxy_rules_service_changes_total [3-9]$", metrics, re.M)
    assert re.search(r'^kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} [1-9]$', metrics, re.M)
    until("event", lambda: "StartKubeProxy" in world.kubectl("get", "events", "-o", "json"))
    proxy.send_signal(signal.SIGTERM)
    assert proxy.wait(LIMIT) == 0


def _follow_endpoints(world: World) -> None:
    """A client keeps its port while the endpoint moves; its packets follow."""
    made = world.create(service("dns", externalIPs=[EXTERNAL]))
    world.create(endpoint_slice("dns", ONE))
    servers = {}
    for address in (ONE, OTHER):
        servers[address] = netns.socket_in(world.namespace, kind=socket.SOCK_DGRAM)
        servers[address].bind((address, 5353))
        servers[address].setblocking(False)

    def asked(address: str) -> str:
        with_luck = ""
        client.sendto(b"?", (address, 53))
        for name, server in servers.items():
            try:
                server.recv(10)
            except BlockingIOError:
                continue
            with_luck = name
        return with_luck

    with netns.socket_in(world.namespace, kind=socket.SOCK_DGRAM) as client:
        until("first endpoint", lambda: _permitted(asked, made["spec"]["clusterIP"]) == ONE)
        patch = json.dumps({"endpoints": endpoint_slice("dns", OTHER)["endpoints"]})
        world.kubectl("patch", "endpointslice", "dns", "--type=merge", "-p", patch)
        until("second endpoint", lambda: _permitted(asked, made["spec"]["clusterIP"]) == OTHER)
        assert _permitted(asked, EXTERNAL) == OTHER
    for server in servers.values():
        server.close()


def _permitted(asked: Any, address: str) -> str:
    """What is refused in the output hook is told by sendto as EPERM."""
    try:
        return str(asked(address))
    except PermissionError:
        return ""


def _answer_load_balancers(world: World) -> None:
    world.create(endpoint_slice("web", ONE))
    made = world.create(service("web", type="LoadBalancer", externalTrafficPolicy="Local"))
    port = made["spec"]["healthCheckNodePort"]
    until("health check", lambda: world.ask(NODE, port, "/")[0] == 200)
    world.kubectl("delete", "endpointslice", "web")
    until("no endpoint", lambda: world.ask(NODE, port, "/")[0] == 503)
    assert json.loads(world.ask(NODE, port, "/")[1])["localEndpoints"] == 0
    assert world.ask("127.0.0.1", port, "/")[0] == 0  # by default on the node's own addresses only


def test_cleanup_takes_all_rules_away(world: World) -> None:
    with Nftables(lambda work: netns.inside(world.namespace, work)) as nft:
        nft.run("add table ip tiphys-services; add table ip other")
        assert world.start("proxy", "--cleanup").wait(LIMIT) == 0
        assert nft.run("list tables") == "table ip other\n"
        assert world.start("proxy", "--cleanup").wait(LIMIT) == 0


def test_what_it_does_not_do_is_refused(world: World) -> None:
    refused = world.start("proxy", "--proxy-mode=ipvs")
    world.wait_for(refused, "proxy mode ipvs is not supported")
    assert refused.wait(LIMIT) == 1


def test_another_configuration_ends_it(world: World, tmp_path: Path) -> None:
    world.create(node())
    file = tmp_path / "config.yaml"
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nconntrack: {maxPerCore: 0}\n"
    file.write_text(f"{head}clientConnection: {{kubeconfig: {world.commands.kubeconfig}}}\n")
    proxy = world.start("proxy", f"--config={file}", "--hostname-override=n1")
    until("healthy", lambda: world.ask("127.0.0.1", 10256, "/livez")[0] == 200)
    file.write_text(f"{file.read_text()}bindAddress: 10.0.0.1\n")
    assert proxy.wait(LIMIT) == 1
    world.wait_for(proxy, "content of the proxy server's configuration file was updated")
