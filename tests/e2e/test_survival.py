"""Any process may be killed at any moment: nothing acknowledged is lost and no container dies."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.base.netlink import Netlink
from tiphys.runtime import netns

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
    words = ("up", NAME, "--kubeconfig", tough.environment["KUBECONFIG"], "-o", "json")
    assert json.loads(tough.tiphys(*words).stdout)["started"] == []


def test_a_killed_shim_or_pause_process_is_seen_at_once_and_its_pod_comes_back(tough: Commands) -> None:
    tough.kubectl("run", "held", "--image=busybox", "--command", "--", "sleep", "1000")
    tough.wait("pod/held", "condition=Ready")
    uid = tough.get("pod", "held")["metadata"]["uid"]

    def main() -> dict[str, Any]:
        found: dict[str, Any] = tough.get("pod", "held")["status"]["containerStatuses"][0]
        return found

    os.kill(_held(tough, uid, "containers")["shim"], signal.SIGKILL)
    tough.until(lambda: main()["restartCount"] == 1 and main()["ready"])
    assert main()["lastState"]["terminated"]["exitCode"] == 137
    pause = _held(tough, uid, "sandboxes")["pid"]
    os.kill(pause, signal.SIGKILL)
    tough.until(lambda: main()["restartCount"] == 2 and main()["ready"])
    assert _held(tough, uid, "sandboxes")["pid"] != pause
    tough.kubectl("delete", "pod", "held", "--force", "--grace-period=0")


def _held(commands: Commands, uid: str, kind: str) -> dict[str, Any]:
    """What the runtime has written down of a pod's newest running container, or of its sandbox."""
    found = []
    for path in commands.home.rglob(f"{kind}/*/state.json"):
        labels = json.loads((path.parent / "spec.json").read_text())["labels"]
        state = json.loads(path.read_text())
        if labels["io.kubernetes.pod.uid"] == uid and state.get("pid"):
            found.append((path.stat().st_mtime, state))
    newest: dict[str, Any] = max(found, key=lambda pair: pair[0])[1]
    return newest


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


KEEPER = """
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  containers:
  - {name: keeper, image: nginx, volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: once, image: busybox, command: [sh, -c, echo done]}]
"""


@pytest.mark.parametrize("reboot", [False, True], ids=["down", "reboot"])
def test_volumes_stay_and_finished_jobs_are_not_run_again(tough: Commands, reboot: bool) -> None:
    tough.kubectl("apply", "-f", "-", stdin=KEEPER)
    tough.wait("pod/keeper", "condition=Ready")
    tough.wait("job/once", "condition=Complete")
    tough.kubectl("exec", "keeper", "--", "sh", "-c", "echo kept > /data/file")
    ran = tough.get("pods", "-l", "job-name=once")["items"][0]["metadata"]["uid"]
    tough.tiphys("down", NAME, "--grace", "2")
    if reboot:
        forget_what_a_reboot_forgets(tough)
    up(tough)
    tough.wait("pod/keeper", "condition=Ready")
    assert tough.out("exec", "keeper", "--", "cat", "/data/file") == "kept"
    keeper = tough.get("pod", "keeper")["status"]["containerStatuses"][0]
    assert keeper["restartCount"] == 1
    assert keeper["lastState"]["terminated"]["exitCode"] == 0
    (pod,) = tough.get("pods", "-l", "job-name=once")["items"]
    assert (pod["metadata"]["uid"], pod["status"]["phase"]) == (ran, "Succeeded")
    assert tough.out("logs", "job/once") == "done"
    tough.kubectl("delete", "pod/keeper", "job/once", "--grace-period=0", "--force")


def forget_what_a_reboot_forgets(commands: Commands) -> None:
    """Namespaces, devices and the run directory of a cluster that is down."""
    run = Path(commands.environment["TIPHYS_RUN"])
    config = json.loads((commands.home / "clusters" / f"{NAME}.json").read_text())
    bridge = f"tiphys{config['index']}"
    for namespace in (run / "netns").glob(f"{bridge}-*"):
        netns.drop(namespace)
    with Netlink() as link:
        link.delete_link(bridge)
    shutil.rmtree(run / NAME)


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tough: Commands) -> None:
    tough.wait("pod/steady", "condition=Ready")
    before = tough.get("pod", "steady")["status"]["containerStatuses"][0]
    chance = random.Random(7)
    acknowledged: list[str] = []
    ended = threading.Event()

    def load() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            if tough.kubectl("create", "configmap", f"load-{number}", check=False).returncode == 0:
                acknowledged.append(f"load-{number}")

    thread = threading.Thread(target=load)
    thread.start()
    exits = {}
    try:
        for number in range(4):
            code = chance.randrange(1, 100)
            command = f"sleep {chance.uniform(0, 1):.2f}; exit {code}"
            words = ("--restart=Never", "--command", "--", "sh", "-c", command)
            if tough.kubectl("run", f"brief-{number}", "--image=busybox", *words, check=False).returncode == 0:
                exits[f"brief-{number}"] = code
            for component in chance.sample(["control-plane", "node-1"], chance.randint(1, 2)):
                kill(tough, component)
            up(tough)
    finally:
        ended.set()
        thread.join()
    present = {item["metadata"]["name"] for item in tough.get("configmaps")["items"]}
    assert set(acknowledged) <= present
    for name, code in exits.items():
        tough.wait(f"pod/{name}", "jsonpath={.status.phase}=Failed")
        (status,) = tough.get("pod", name)["status"]["containerStatuses"]
        assert status["state"]["terminated"]["exitCode"] == code
    after = tough.get("pod", "steady")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], before["restartCount"])


def test_a_shim_that_is_killed_ends_its_container_by_an_error(tough: Commands) -> None:
    tough.kubectl("run", "shimless", "--image=nginx", "--restart=Never")
    tough.wait("pod/shimless", "condition=Ready")
    identity = tough.get("pod", "shimless")["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    directory = tough.home / "data" / NAME / "nodes" / "node-1" / "runtime" / "containers" / identity
    first = int(json.loads((directory / "state.json").read_text())["pid"])
    shim = int(Path(f"/proc/{first}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(shim, signal.SIGKILL)
    tough.wait("pod/shimless", "jsonpath={.status.phase}=Failed")
    ended = tough.get("pod", "shimless")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    tough.kubectl("delete", "pod", "shimless", "--grace-period=0", "--force")
