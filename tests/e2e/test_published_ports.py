"""Published ports of a running cluster: added, changed, removed, refused, and what becomes of connections."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import Commands
from e2e.machine import HERE, Machine, join_machines, part_machines
from tiphys.cluster import processes

pytestmark = pytest.mark.e2e

CLUSTER = "harbour"
LIMIT = 10.0
WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: busybox
    imagePullPolicy: IfNotPresent
    command:
    - sh
    - -c
    - |
      mkdir -p /w/cgi-bin
      printf '#!/bin/sh\\nprintf "Content-Type: text/plain\\\\n\\\\n$REMOTE_ADDR"' > /w/cgi-bin/who
      chmod +x /w/cgi-bin/who
      nc -ll -p 7000 -e cat &
      exec httpd -f -p 8000 -h /w
    readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  type: LoadBalancer
  ports: [{name: http, port: 80, targetPort: 8000}, {name: echo, port: 7, targetPort: 7000}]
"""

ASTRAY = """
set -e
echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
ip rule add pref 1 to 127.0.0.0/8 lookup 99
ip route add 127.0.0.0/8 via {gateway} dev eth0 onlink table 99
ip rule add pref 2 lookup local
ip rule del pref 0
exec {python} -c 'import socket; socket.create_connection(("127.0.0.1", {port}), 2)'
"""
"""The way to the loopback leads to the host: what a node that was taken over would try."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Harbour:
    """A cluster with one Service and one published port, `first`."""

    def __init__(self, commands: Commands, first: int) -> None:
        self.commands, self.first = commands, first

    def ports(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.commands.tiphys("ports", *words, "--name", CLUSTER, check=check)

    def listed(self) -> dict[str, dict[str, object]]:
        return {one["port"]: one for one in json.loads(self.ports("list", "-o", "json").stdout)}

    def source(self, address: str, port: int) -> str:
        """Where the pod says that a request to the port comes from."""
        host = f"[{address}]" if ":" in address else address
        with urllib.request.urlopen(f"http://{host}:{port}/cgi-bin/who", timeout=LIMIT) as answer:
            return str(answer.read().decode()).strip("[]").removeprefix("::ffff:")

    def connected(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=LIMIT)

    def kill_control_plane(self) -> None:
        run = Path(self.commands.environment["TIPHYS_RUN"])
        os.kill(processes.pid_of(run / CLUSTER / "control-plane.lock"), signal.SIGKILL)
        self.commands.until(lambda: not processes.pid_of(run / CLUSTER / "control-plane.lock"))


@pytest.fixture(scope="module")
def harbour(own_machine: Commands, images: list[Path]) -> Iterator[Harbour]:
    first = free_port()
    own_machine.tiphys("up", CLUSTER, "--image", str(images[0]), "--publish", f"{first}:web:80")
    built = Harbour(own_machine, first)
    assert built.listed()[f"127.0.0.1:{first}:default/web:80/tcp"]["waiting"] == "Service default/web does not exist"
    with pytest.raises(ConnectionRefusedError):
        built.connected(first)
    own_machine.kubectl("apply", "-f", "-", stdin=WEB)
    own_machine.wait("pod/web", "condition=Ready")
    own_machine.until(lambda: built.listed()[f"127.0.0.1:{first}:default/web:80/tcp"]["backends"])
    yield built
    own_machine.tiphys("delete", CLUSTER, check=False)


def test_a_port_that_up_published_leads_to_the_service(harbour: Harbour) -> None:
    assert harbour.source("127.0.0.1", harbour.first).startswith("10.89.")
    assert harbour.source("localhost", harbour.first).startswith("10.89.")
    status = json.loads(harbour.commands.tiphys("status", CLUSTER, "-o", "json").stdout)
    assert [one["way"] for one in status["ports"]] == ["kernel"]


def test_ports_are_added_and_removed_while_the_cluster_runs(harbour: Harbour) -> None:
    second = free_port()
    told = harbour.ports("add", f"{second}:default/web:echo").stdout
    assert told.startswith(f"127.0.0.1:{second}:default/web:echo/tcp is published, to 10.")
    with harbour.connected(second) as kept:
        assert _echoes(kept)
        harbour.ports("remove", str(second))
        assert [*harbour.listed()] == [f"127.0.0.1:{harbour.first}:default/web:80/tcp"]
        with pytest.raises(ConnectionRefusedError):
            harbour.connected(second)
        assert _echoes(kept)


def test_udp_and_ipv6_loopback(harbour: Harbour) -> None:
    port, six, number = free_port(), free_port(), free_port()
    dns = "kube-system/kube-dns:dns"
    harbour.ports("add", f"{port}:{dns}/udp", f"[::1]:{six}:web:80", f"[::1]:{number}:{dns}/udp")
    assert harbour.source("::1", six).startswith("10.89.")
    assert _resolves(socket.AF_INET, ("127.0.0.1", port))
    assert _resolves(socket.AF_INET6, ("::1", number))
    ways = {port: one["way"] for port, one in harbour.listed().items()}
    assert ways[f"[::1]:{six}:default/web:80/tcp"] == "process"
    assert ways[f"127.0.0.1:{port}:{dns}/udp"] == "kernel"
    harbour.ports("remove", f"{port}/udp", f"[::1]:{six}:web:80", f"[::1]:{number}/udp")


def test_what_cannot_be_had_is_refused_and_nothing_is_changed(harbour: Harbour) -> None:
    before = harbour.listed().keys()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for place in (f"{port}", f"0.0.0.0:{port}"):
            refused = harbour.ports("add", f"{place}:web:80", check=False)
            assert refused.returncode == 1
            assert "in use by another program" in refused.stderr
        again = harbour.commands.tiphys("up", "other", "--publish", f"{port}:80", check=False)
        assert "in use by another program" in again.stderr
    for text, why in (
        (f"0.0.0.0:{harbour.first}:web:80", "is published already"),
        ("203.0.113.99:80:web:80", "no address of this machine"),
    ):
        refused = harbour.ports("add", text, check=False)
        assert (refused.returncode, why in refused.stderr) == (1, True), refused.stderr
    assert harbour.ports("remove", "1", check=False).returncode == 1
    assert harbour.listed().keys() == before
    assert "other" not in harbour.commands.tiphys("list").stdout


def test_nobody_else_gets_a_published_port(harbour: Harbour) -> None:
    for address in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(OSError, match="in use"):
            socket.create_server((address, harbour.first))


def test_connections_outlive_the_control_plane_and_ports_come_back_with_it(harbour: Harbour) -> None:
    echo = free_port()
    harbour.ports("add", f"{echo}:web:echo")
    with harbour.connected(echo) as kept:
        assert _echoes(kept)
        harbour.kill_control_plane()
        assert _echoes(kept)
        assert harbour.source("127.0.0.1", harbour.first).startswith("10.89.")
        harbour.commands.tiphys("up", CLUSTER)
        assert _echoes(kept)
    assert harbour.source("127.0.0.1", harbour.first).startswith("10.89.")
    assert harbour.listed()[f"127.0.0.1:{echo}:default/web:echo/tcp"]["backends"]


def test_another_machine_comes_in_with_its_own_address_and_only_where_it_may(harbour: Harbour, tmp_path: Path) -> None:
    port = free_port()
    join_machines()
    other = Machine(3, tmp_path)

    def source(address: str, number: int) -> str:
        fetch = (
            f"import urllib.request as r; print(r.urlopen('http://{address}:{number}/cgi-bin/who', timeout=3).read())"
        )
        return other.run(sys.executable, "-c", fetch, check=False).strip()

    try:
        harbour.ports("add", f"0.0.0.0:{port}:web:80")
        assert other.address in source(HERE, port)
        assert source(HERE, harbour.first) == ""
        balancer = harbour.commands.out("get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
        assert harbour.source(balancer, 80)
        assert source(balancer, 80)
        ranges = '{"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local"}}'
        harbour.commands.kubectl("patch", "service", "web", "-p", ranges)
        harbour.commands.until(lambda: source(balancer, 80) == "")
        ranges = ranges.replace("10.0.0.0/8", f"{other.address}/32")
        harbour.commands.kubectl("patch", "service", "web", "-p", ranges)
        harbour.commands.until(lambda: other.address in source(balancer, 80))
    finally:
        other.close()
        part_machines()
        harbour.ports("remove", f"0.0.0.0:{port}", check=False)


def test_a_node_does_not_reach_the_hosts_loopback(harbour: Harbour) -> None:
    """Though the bridge may carry the loopback's addresses while ports are published there."""
    config = json.loads((harbour.commands.home / "data" / CLUSTER / "cluster.json").read_text())
    namespace = Path(harbour.commands.environment["TIPHYS_RUN"], "netns", f"tiphys{config['index']}-node-1")
    with socket.socket() as secret:
        secret.bind(("127.0.0.1", 0))
        secret.listen()
        number = secret.getsockname()[1]
        script = ASTRAY.format(gateway=f"10.89.{config['index']}.1", port=number, python=sys.executable)
        enter = ["nsenter", f"--net={namespace}", "unshare", "--mount", "sh", "-c", script]
        done = subprocess.run(enter, capture_output=True, text=True, check=False)
        assert "timed out" in done.stderr, done.stderr
        secret.settimeout(0.2)
        with pytest.raises(TimeoutError):
            secret.accept()


def test_down_lets_go_of_the_ports_and_up_has_them_again(harbour: Harbour) -> None:
    harbour.commands.tiphys("down", CLUSTER)
    with pytest.raises(ConnectionRefusedError):
        harbour.connected(harbour.first)
    with socket.create_server(("127.0.0.1", harbour.first)):
        refused = harbour.commands.tiphys("up", CLUSTER, check=False)
        assert "in use by another program" in refused.stderr
    harbour.commands.tiphys("up", CLUSTER)
    harbour.commands.wait("pod/web", "condition=Ready")
    harbour.commands.until(lambda: harbour.listed()[f"127.0.0.1:{harbour.first}:default/web:80/tcp"]["backends"])
    assert harbour.source("127.0.0.1", harbour.first).startswith("10.89.")


def _echoes(connection: socket.socket) -> bool:
    connection.sendall(b"ahoy\n")
    return connection.recv(100) == b"ahoy\n"


def _resolves(family: socket.AddressFamily, server: tuple[str, int]) -> bool:
    """Whether a question for kubernetes.default.svc.cluster.local is answered with an address."""
    name = b"".join(
        bytes((len(part),)) + part.encode() for part in ["kubernetes", "default", "svc", "cluster", "local"]
    )
    question = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0" + name + b"\0\x00\x01\x00\x01"
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(LIMIT)
        client.connect(server)
        client.send(question)
        answer = client.recv(1000)
    return answer[:2] == question[:2] and answer[6:8] == b"\0\x01"
