"""Nodes on several machines: one joins the cluster of another by a file, and its pods are reached as any."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import Commands
from e2e.machine import HERE, Machine, join_machines, part_machines
from tiphys.base.netlink import Netlink
from tiphys.overlay.links import OverlayLink
from tiphys.overlay.types import HOST_ROUTES, Settings

pytestmark = pytest.mark.e2e

CLUSTER = "wide"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "mkdir /w; echo {name} > /w/index.html; httpd -f -p 80 -h /w"]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}
---
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: far-only-from-friends}
spec:
  podSelector: {matchLabels: {app: far}}
  ingress: [{from: [{podSelector: {matchLabels: {friend: "yes"}}}]}]
"""


class World:
    """This machine with a cluster of one node, and another one that has joined."""

    def __init__(self, here: Commands, there: Machine, file: Path) -> None:
        self.here, self.there, self.file = here, there, file
        self.kubelet = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        root = str(self.there.home / "kubelet")
        places = ("--root-dir", root, "--pod-log-dir", str(self.there.home / "logs"), "--cgroup-root", "tiphys/far")
        return self.there.start("kubelet", "--join", str(self.file), "--node-name", "far", *places)

    def stop(self, number: signal.Signals) -> None:
        self.kubelet.send_signal(number)
        self.kubelet.wait(timeout=30)

    def cleanup(self) -> None:
        self.there.tiphys(
            "kubelet", "--cleanup", "--root-dir", str(self.there.home / "kubelet"), "--cgroup-root", "tiphys/far"
        )

    def fetch(self, pod: str, url: str) -> str:
        return self.here.kubectl("exec", pod, "--", "wget", "-qO-", url, check=False).stdout.strip()

    def address(self, pod: str) -> str:
        return self.here.out("get", "pod", pod, "-o", "jsonpath={.status.podIP}")


@pytest.fixture(scope="module")
def world(own_machine: Commands, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    join_machines()
    home = tmp_path_factory.mktemp("far")
    there = Machine(2, home)
    try:
        own_machine.tiphys("up", CLUSTER, "--image", str(images[0]), "--listen", HERE)
        file = home / "join"
        file.write_text(own_machine.tiphys("node", "token", "--name", CLUSTER, "--ttl", "10m").stdout)
        there.tiphys("image", "load", str(images[0]))
        built = World(own_machine, there, file)
        own_machine.kubectl("wait", "--for=create", "node/far", "--timeout=30s")
        own_machine.wait("node/far", "condition=Ready")
        near, far = (POD.format(name=name, node=node) for name, node in (("near", "node-1"), ("far", "far")))
        own_machine.kubectl("apply", "-f", "-", stdin=near + far)
        for pod in ("near", "far"):
            own_machine.wait(f"pod/{pod}", "condition=Ready")
        yield built
        if built.kubelet.poll() is None:
            built.stop(signal.SIGTERM)
    finally:
        own_machine.tiphys("delete", CLUSTER, check=False)
        there.close()
        part_machines()


def test_pods_and_services_are_reached_across_machines(world: World) -> None:
    assert world.fetch("near", f"http://{world.address('far')}/") == "far"
    assert world.fetch("far", f"http://{world.address('near')}/") == "near"
    world.here.until(lambda: world.fetch("near", "http://far/") == "far")
    world.here.until(lambda: world.fetch("far", "http://near.default.svc.cluster.local/") == "near")


def test_the_machines_themselves_reach_services_and_pods(world: World) -> None:
    for name in ("near", "far"):
        service = world.here.out("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
        for address in (service, world.address(name)):
            words = ("curl", "-sS", "-m", "5", f"http://{address}/")
            assert world.there.run(*words).strip() == name
            assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == name


def test_logs_and_commands_reach_the_other_machine_by_a_certificate_that_the_cluster_signed(world: World) -> None:
    assert world.here.out("exec", "far", "--", "hostname") == "far"
    requests = {
        request["spec"]["signerName"].partition("/")[2]: request["spec"]["username"]
        for request in world.here.get("csr")["items"]
    }
    assert requests.pop("kube-apiserver-client-kubelet").startswith("system:bootstrap:")
    assert requests == {"kube-apiserver-client": "system:node:far", "kubelet-serving": "system:node:far"}


def test_packets_are_as_large_as_the_way_allows(world: World) -> None:
    for pod in ("near", "far"):
        assert world.here.out("exec", pod, "--", "cat", "/sys/class/net/eth0/mtu") == "1450"
    answer = world.here.out("exec", "near", "--", "ping", "-c", "1", "-s", str(1450 - 28), world.address("far"))
    assert "1 packets received" in answer


def test_policies_hold_across_machines(world: World) -> None:
    here, url = world.here, f"http://{world.address('far')}/"
    connect = ("exec", "near", "--", "nc", "-w", "1", world.address("far"), "80")
    here.kubectl("apply", "-f", "-", stdin=POLICY)
    here.until(lambda: here.kubectl(*connect, check=False, stdin="").returncode != 0)
    here.kubectl("label", "pod", "near", "friend=yes")
    here.until(lambda: world.fetch("near", url) == "far")
    here.kubectl("delete", "networkpolicy", "--all")


def test_a_killed_kubelet_leaves_the_network_as_it_is_and_finds_it_again(world: World) -> None:
    url, before = f"http://{world.address('far')}/", world.there.links()
    world.stop(signal.SIGKILL)
    assert world.fetch("near", url) == "far"
    log = (world.there.home / "log").stat().st_size
    world.kubelet = world.start()
    world.here.until(lambda: (world.there.home / "log").stat().st_size > log)
    assert world.fetch("near", url) == "far"
    assert world.there.links() == before


def test_a_node_that_is_gone_is_forgotten_and_leaves_nothing(world: World) -> None:
    assert len(_routes(world)) == 1
    world.stop(signal.SIGTERM)
    world.here.kubectl("delete", "node", "far")
    world.here.until(lambda: not _routes(world))
    world.cleanup()
    assert world.there.links() == ["eth0", "lo"]
    assert world.there.run("nft", "list", "tables", check=False) == ""


def test_delete_takes_the_overlay_away(world: World) -> None:
    config = json.loads((world.here.home / "data" / CLUSTER / "cluster.json").read_text())
    with Netlink() as link:
        assert link.index(f"tiphys{config['index']}-vxlan")
        world.here.tiphys("delete", CLUSTER)
        assert not link.index(f"tiphys{config['index']}-vxlan")


def _routes(world: World) -> list[str]:
    """The host's routes of the overlay."""
    config = json.loads((world.here.home / "data" / CLUSTER / "cluster.json").read_text())
    with OverlayLink() as link:
        found = link.entries(Settings(HOST_ROUTES, HERE, vni=config["index"] + 1))
    return [route.subnet for route in found.routes]
