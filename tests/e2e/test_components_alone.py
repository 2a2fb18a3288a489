"""Components started by hand, with upstream's flags, make a cluster together; each ends at SIGTERM with code 0."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e
TOKEN = "secret-token"
PODS = "10.77.0.0/24"
LIMIT = 30.0


class Component:
    """A component in the foreground; its log lines can be waited for."""

    def __init__(self, commands: Commands, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tiphys", *words],
            env=commands.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.log = ""

    def wait_for(self, text: str) -> None:
        assert self.process.stderr is not None
        while text not in self.log:
            ready, _, _ = select.select([self.process.stderr], [], [], LIMIT)
            data = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            assert data, f"{text!r} is not in:\n{self.log}"
            self.log += data.decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=LIMIT)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Commands]:
    """Files of their own; whatever the kubelet leaves is removed."""
    commands = Commands(tmp_path, Path("/run") / f"tiphys-alone-{os.getpid()}")
    yield commands
    commands.tiphys("kubelet", "--cleanup", "--root-dir", str(tmp_path / "kubelet"), "--cgroup-root", "tiphys/alone")
    shutil.rmtree(commands.environment["TIPHYS_RUN"], ignore_errors=True)


@pytest.fixture
def server(alone: Commands) -> Iterator[Component]:
    """An API server with nothing but a port, a directory and a token file."""
    (alone.home / "tokens").write_text(f"{TOKEN},admin,1,system:masters\n")
    port, data = free_port(), alone.home / "server"
    words = ("--secure-port", str(port), "--bind-address", "127.0.0.1", "--data-dir", str(data))
    server = Component(alone, "apiserver", *words, "--token-auth-file", str(alone.home / "tokens"))
    server.wait_for("serving on")
    for key, value in (
        ("clusters.alone.server", f"https://127.0.0.1:{port}"),
        ("clusters.alone.certificate-authority", str(next(data.rglob("ca.crt")))),
        ("users.alone.token", TOKEN),
        ("contexts.alone.cluster", "alone"),
        ("contexts.alone.user", "alone"),
        ("current-context", "alone"),
    ):
        alone.kubectl("config", "set", key, value)
    yield server
    server.kill()


def test_four_components_run_a_pod(alone: Commands, server: Component, images: list[Path]) -> None:
    kubeconfig = ("--kubeconfig", str(alone.kubeconfig))
    alone.tiphys("image", "load", *map(str, images))
    authority = next((alone.home / "server").rglob("ca.crt"))
    key = authority.with_suffix(".key")
    signing = ("--cluster-signing-cert-file", str(authority), "--cluster-signing-key-file", str(key))
    manager = Component(
        alone, "controller-manager", *kubeconfig, "--controllers", "*,-cronjob-controller", "--leader-elect", *signing
    )
    scheduler = Component(alone, "scheduler", *kubeconfig, "--leader-elect")
    root = alone.home / "kubelet"
    node = ("--node-name", "byhand", "--root-dir", str(root), "--pod-cidr", PODS, "--port", str(free_port()))
    places = ("--cgroup-root", "tiphys/alone", "--pod-log-dir", str(alone.home / "pods"))
    trusted = ("--client-ca-file", str(authority))
    access = ("--bootstrap-kubeconfig", str(alone.kubeconfig), "--kubeconfig", str(root / "kubelet.conf"))
    rotated = ("--rotate-certificates", "--rotate-server-certificates")
    kubelet = Component(alone, "kubelet", *access, *rotated, *node, *places, *trusted)
    components = [kubelet, scheduler, manager]
    try:
        alone.kubectl("wait", "--for=create", "node/byhand", "--timeout=30s")
        alone.wait("node/byhand", "condition=Ready")
        requests = alone.get("csr")["items"]
        signers = {one["spec"]["signerName"].partition("/")[2]: one for one in requests}
        assert sorted(signers) == ["kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving"]
        for signer in ("kubelet-serving", "kube-apiserver-client"):
            assert signers[signer]["spec"]["username"] == "system:node:byhand"
            alone.kubectl("certificate", "approve", signers[signer]["metadata"]["name"])
        alone.until((root / "pki" / "kubelet-server-current.pem").exists)
        alone.kubectl("create", "deployment", "web", "--image=nginx")
        alone.kubectl("create", "cronjob", "tick", "--image=busybox", "--schedule=* * * * *", "--", "true")
        alone.wait("deployment/web", "condition=Available")
        address = alone.out("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}")
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
            assert answer.status == 200
        alone.kubectl("expose", "deployment", "web", "--port=80")
        service = alone.out("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
        alone.until(lambda: _answers(f"http://{service}/"))
        assert "Welcome" in alone.out("exec", "deploy/web", "--", "cat", "/usr/share/nginx/html/index.html")
        alone.kubectl("delete", "deployment/web", "--cascade=foreground", "--wait")
    finally:
        codes = [component.stop() for component in components]
    assert codes == [0, 0, 0]
    assert server.stop() == 0


def test_another_controller_manager_takes_over(alone: Commands, server: Component) -> None:
    words = ("controller-manager", "--kubeconfig", str(alone.kubeconfig), "--leader-elect")
    first = Component(alone, *words)
    alone.kubectl("wait", "--for=create", "-n", "kube-system", "lease/kube-controller-manager", "--timeout=30s")
    second = Component(alone, *words)
    try:
        alone.kubectl("create", "namespace", "before")
        alone.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "before", "--timeout=30s")
        holder = (
            "get",
            "lease",
            "kube-controller-manager",
            "-n",
            "kube-system",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        )
        leader = alone.out(*holder)
        assert first.stop() == 0
        alone.kubectl("create", "namespace", "after")
        alone.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "after", "--timeout=30s")
        assert alone.out(*holder) not in ("", leader)
    finally:
        first.kill()
        assert second.stop() == 0


@pytest.mark.parametrize("component", ["controller-manager", "scheduler", "kubelet"])
def test_components_without_a_server_say_so(alone: Commands, component: str) -> None:
    done = alone.tiphys(component, "--kubeconfig", "/nowhere", check=False)
    assert done.returncode == 1
    assert done.stderr == "tiphys: cannot read kubeconfig /nowhere: No such file or directory\n"


def test_an_etcd_that_is_not_there_is_named(alone: Commands) -> None:
    nowhere = "http://127.0.0.1:1"
    done = alone.tiphys("apiserver", "--data-dir", str(alone.home), "--etcd-servers", nowhere, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"tiphys: etcd {nowhere}: ")
