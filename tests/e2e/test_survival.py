"""Any process may be killed at any moment: nothing acknowledged is lost and no container dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e
NAME = "tough"


@pytest.fixture(scope="module")
def tough(machine: Commands, images: list[Path]) -> Iterator[Commands]:
    words = [word for file in images for word in ("--image", str(file))]
    machine.tiphys("up", NAME, *words, "--kubeconfig", str(machine.home / NAME))
    own = Commands(machine.home, Path(machine.environment["TIPHYS_RUN"]))
    own.environment["KUBECONFIG"] = str(machine.home / NAME)
    yield own
    machine.tiphys("delete", NAME, "--kubeconfig", str(machine.home / NAME))


def kill(commands: Commands, component: str) -> None:
    import json

    status = json.loads(commands.tiphys("status", NAME, "-o", "json", check=False).stdout)
    pid = next(item["pid"] for item in status["components"] if item["component"] == component)
    os.kill(pid, signal.SIGKILL)


def up(commands: Commands) -> None:
    commands.tiphys("up", NAME, "--kubeconfig", commands.environment["KUBECONFIG"])


def test_a_killed_control_plane_loses_nothing(tough: Commands) -> None:
    tough.kubectl("run", "steady", "--image=nginx")
    tough.wait("pod/steady", "condition=Ready")
    before = tough.get("pod", "steady")
    for number in range(20):
        tough.kubectl("create", "configmap", f"kept-{number}")
    kill(tough, "control-plane")
    up(tough)
    assert (
        len([item for item in tough.get("configmaps")["items"] if item["metadata"]["name"].startswith("kept-")]) == 20
    )
    after = tough.get("pod", "steady")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert (
        after["status"]["containerStatuses"][0]["containerID"]
        == before["status"]["containerStatuses"][0]["containerID"]
    )
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_containers_run_on_without_a_kubelet_and_their_end_is_recorded(tough: Commands) -> None:
    tough.kubectl(
        "run", "brief", "--image=busybox", "--restart=Never", "--command", "--",
        "sh", "-c", "until [ -e /tmp/go ]; do sleep 0.1; done; exit 42",
    )  # fmt: skip
    tough.wait("pod/brief", "condition=Ready")
    identity = tough.get("pod", "steady")["status"]["containerStatuses"][0]["containerID"]
    root = Path(f"/proc/{_pid_of('until [ -e /tmp/go ]')}/root")
    kill(tough, "node-1")
    (root / "tmp" / "go").touch()
    up(tough)
    tough.wait("pod/brief", "jsonpath={.status.phase}=Failed")
    ended = tough.get("pod", "brief")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 42
    steady = tough.get("pod", "steady")["status"]["containerStatuses"][0]
    assert steady["containerID"] == identity
    assert steady["restartCount"] == 0


def test_down_and_up_bring_the_same_cluster_back(tough: Commands) -> None:
    uid = tough.get("pod", "steady")["metadata"]["uid"]
    tough.tiphys("down", NAME)
    assert tough.tiphys("status", NAME, check=False).returncode == 1
    up(tough)
    tough.wait("pod/steady", "condition=Ready")
    assert tough.get("pod", "steady")["metadata"]["uid"] == uid
    assert "Welcome" in tough.out("exec", "steady", "--", "cat", "/usr/share/nginx/html/index.html")


def test_up_again_changes_nothing(tough: Commands) -> None:
    import json

    words = ("up", NAME, "--kubeconfig", tough.environment["KUBECONFIG"], "-o", "json")
    assert json.loads(tough.tiphys(*words).stdout)["started"] == []


def _pid_of(text: str) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in command and command.startswith("sh "):
                return int(entry.name)
    raise AssertionError(f"no process runs {text!r}")
