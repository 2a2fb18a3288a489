"""Every command as scripts use it: exit codes, JSON on stdout and nothing else, one line of error."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from e2e.registry import serving

pytestmark = pytest.mark.e2e


def answer(commands: Commands, *words: str) -> Any:
    """What the command prints as JSON; nothing else may be on stdout, and nothing at all on stderr."""
    done = commands.tiphys(*words, "--output", "json")
    assert done.stderr == ""
    return json.loads(done.stdout)


def refusal(commands: Commands, *words: str, code: int = 1) -> str:
    """The one line that says why not."""
    done = commands.tiphys(*words, check=False)
    assert (done.returncode, done.stdout) == (code, ""), done
    (line,) = done.stderr.splitlines()
    return line


def begin(commands: Commands, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tiphys", *words],
        env=commands.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def spare(machine: Commands) -> Iterator[str]:
    """The name of a cluster that is deleted afterwards."""
    yield "spare"
    machine.tiphys("delete", "spare", check=False)


def test_each_command_answers_in_json(cluster: Commands) -> None:
    assert answer(cluster, "up", "e2e", "--nodes", "2")["started"] == []
    status = answer(cluster, "status", "e2e")
    assert status["state"] == "Running"
    assert [one["component"] for one in status["components"]] == ["control-plane", "node-1", "node-2"]
    assert all(one["running"] and one["pid"] and one["memoryBytes"] for one in status["components"])
    assert "e2e" in [one["name"] for one in answer(cluster, "list")]
    assert [one["name"] for one in answer(cluster, "node", "list", "--name", "e2e")] == ["node-1", "node-2"]
    assert "docker.io/library/nginx:latest" in [one["image"] for one in answer(cluster, "image", "list")]
    assert answer(cluster, "kubeconfig", "e2e")["current-context"] == "tiphys-e2e"
    assert set(answer(cluster, "version")) == {"tiphys", "kubernetes", "python"}
    assert all({"name", "ok", "detail"} <= set(finding) for finding in answer(cluster, "doctor"))
    logs = answer(cluster, "logs", "--name", "e2e", "--tail", "1")
    assert list(logs) == ["control-plane", "node-1", "node-2"]
    assert len(logs["control-plane"]) == 1


def test_quiet_commands_print_names_or_nothing(cluster: Commands) -> None:
    done = cluster.tiphys("up", "e2e", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    assert "e2e" in cluster.tiphys("list", "-q").stdout.split()
    assert cluster.tiphys("node", "list", "-q", "--name", "e2e").stdout.split() == ["node-1", "node-2"]


def test_commands_that_fail_say_why_in_a_line(cluster: Commands, tmp_path: Path) -> None:
    text = tmp_path / "text.tar"
    text.write_text("no archive")
    assert f"{text}: not an image archive" in refusal(cluster, "up", "e2e", "--image", str(text))
    assert "no such file" in refusal(cluster, "up", "e2e", "--image", str(tmp_path / "gone.tar"))
    assert "not an image archive" in refusal(cluster, "image", "load", str(text))
    assert "keeps its data in" in refusal(cluster, "up", "e2e", "--data-dir", str(tmp_path / "other"))
    assert "was made with sqlite" in refusal(cluster, "up", "e2e", "--store", "memory:")
    assert "no component 'x'" in refusal(cluster, "logs", "x", "--name", "e2e")
    assert "has a node 'node-1' already" in refusal(cluster, "node", "add", "node-1", "--name", "e2e")
    assert "no image 'x'" in refusal(cluster, "image", "remove", "x")
    assert f"kubeconfig {tmp_path}: Is a directory" in refusal(cluster, "up", "e2e", "--kubeconfig", str(tmp_path))


def test_a_data_directory_must_be_empty_because_delete_removes_it(machine: Commands, tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    assert "not empty (letter)" in refusal(machine, "up", "spare", "--data-dir", str(tmp_path))
    assert "no cluster 'spare'" in refusal(machine, "delete", "spare")
    assert (tmp_path / "letter").exists()


def test_a_data_directory_can_be_anywhere_and_come_back(machine: Commands, spare: str, tmp_path: Path) -> None:
    data = tmp_path / "with space" / "data"
    machine.tiphys("up", spare, "--data-dir", str(data), "--keep-context")
    machine.kubectl("--context", "tiphys-spare", "create", "configmap", "kept")
    machine.tiphys("down", spare)
    (machine.home / "clusters" / "spare.json").unlink()
    machine.tiphys("up", spare, "--data-dir", str(data), "--keep-context")
    machine.kubectl("--context", "tiphys-spare", "get", "configmap", "kept")
    assert "it has the data of cluster 'spare'" in refusal(machine, "up", "other", "--data-dir", str(data))
    machine.tiphys("delete", spare)
    assert not data.exists()


def test_a_port_in_use_is_refused_before_anything_starts(machine: Commands, spare: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert f"port {port} of 127.0.0.1 is in use" in refusal(machine, "up", spare, "--port", port)
    assert "no cluster" in refusal(machine, "status", spare)
    assert answer(machine, "up", spare, "--port", port, "--keep-context")["server"] == f"https://127.0.0.1:{port}"
    assert f"serves on {port}" in refusal(machine, "up", spare, "--port", "7")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_ends_what_it_started(machine: Commands, spare: str, number: signal.Signals) -> None:
    up = begin(machine, "up", spare, "--keep-context")
    assert up.stderr is not None
    assert "control-plane is ready" in up.stderr.readline()
    up.send_signal(number)
    up.communicate()
    if up.returncode:  # else it was ready before the signal came
        assert up.returncode == 128 + number
        assert machine.tiphys("status", spare, check=False).stdout.startswith("cluster spare: Stopped")


def test_up_waits_for_what_another_up_left_behind(machine: Commands, spare: str) -> None:
    machine.tiphys("up", spare, "--keep-context")
    machine.tiphys("down", spare)
    up = begin(machine, "up", spare, "--keep-context")
    assert up.stderr is not None
    up.stderr.readline()
    up.kill()
    up.communicate()
    machine.tiphys("up", spare, "--keep-context")
    (node,) = json.loads(machine.kubectl("--context", "tiphys-spare", "get", "nodes", "-o", "json").stdout)["items"]
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"


def test_clusters_made_at_the_same_time_share_nothing(machine: Commands, images: list[Path]) -> None:
    names = ("one", "two", "three")
    words = [word for file in images for word in ("--image", str(file))]
    ups = [begin(machine, "up", name, "-q", "--keep-context", *words) for name in names for _ in range(2)]
    assert [up.communicate() for up in ups] == [("", "")] * 6
    try:
        addresses = set()
        for name in names:
            machine.kubectl("--context", f"tiphys-{name}", "run", "web", "--image=nginx")
        for name in names:
            at = ("--context", f"tiphys-{name}")
            machine.kubectl(*at, "wait", "pod/web", "--for=condition=Ready", "--timeout=60s")
            address = machine.out(*at, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
            addresses.add(address)
            with socket.create_connection((address, 80), 5):
                pass
        assert len(addresses) == 3
    finally:
        machine.tiphys("delete", *names)


def test_homes_that_start_at_the_same_time_take_other_addresses(tmp_path: Path) -> None:
    homes = [Commands(tmp_path / name, Path("/run") / f"tiphys-{tmp_path.name}-{name}") for name in ("a", "b", "c")]
    for home in homes:
        home.home.mkdir()
    ups = [begin(home, "up", "same", "-q", "--port", str(free_port())) for home in homes]
    try:
        assert [up.communicate() for up in ups] == [("", "")] * 3
        known = [json.loads((home.home / "clusters" / "same.json").read_text()) for home in homes]
        assert len({one["index"] for one in known}) == 3
    finally:
        for home in homes:
            home.tiphys("delete", "same", "-q")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_images_are_pulled_listed_and_kept_while_a_container_needs_them(
    cluster: Commands, images: list[Path], tmp_path: Path
) -> None:
    with serving(images[0], "tools/box", "v1") as port:
        name = f"localhost:{port}/tools/box:v1"
        assert answer(cluster, "image", "pull", name)["images"]
        assert "not found" in refusal(cluster, "image", "pull", f"localhost:{port}/tools/box:v2").lower()
    assert name in cluster.tiphys("image", "list", "-q").stdout.split()
    cluster.kubectl("run", "user", f"--image={name}", "--image-pull-policy=Never", "--command", "--", "sleep", "600")
    cluster.wait("pod/user", "condition=Ready")
    # The same content as busybox: the tag may go, the image may not while it is the last name of it.
    cluster.tiphys("image", "remove", name)
    assert "is used by a container" in refusal(cluster, "image", "remove", "busybox")
    cluster.kubectl("delete", "pod", "user", "--force")


def test_logs_follow_a_component(cluster: Commands) -> None:
    with (cluster.home / "data" / "e2e" / "logs" / "node-1.log").open("a", buffering=1) as log:
        log.write("there already\n")
        follow = begin(cluster, "logs", "node-1", "--name", "e2e", "--tail", "1", "-f")
        assert follow.stdout is not None
        assert follow.stdout.readline() == "there already\n"
        log.write("new\n")
        assert follow.stdout.readline() == "new\n"
    follow.send_signal(signal.SIGINT)
    follow.communicate()
    assert follow.returncode == 130


def test_nodes_come_and_go_while_the_cluster_runs(cluster: Commands) -> None:
    assert answer(cluster, "node", "add", "late", "--name", "e2e") == {"name": "late"}
    cluster.kubectl("cordon", "node-1", "node-2")
    cluster.kubectl("create", "deployment", "moved", "--image=nginx", "--replicas=3")
    cluster.wait("deployment/moved", "condition=Available")
    assert cluster.out("get", "pods", "-l", "app=moved", "-o", "wide").count(" late ") == 3
    cluster.kubectl("uncordon", "node-1", "node-2")
    cluster.tiphys("node", "remove", "late", "--name", "e2e")
    assert "late" not in cluster.out("get", "nodes", "-o", "name")
    cluster.kubectl("rollout", "status", "deployment/moved", "--timeout=30s")
    assert " late " not in cluster.out("get", "pods", "-o", "wide")
    assert not (cluster.home / "data" / "e2e" / "nodes" / "late").exists()
    cluster.tiphys("node", "add", "late", "--name", "e2e")
    cluster.wait("node/late", "condition=Ready")
    cluster.tiphys("node", "remove", "late", "--name", "e2e")
    cluster.kubectl("delete", "deployment", "moved")


def test_without_root_commands_say_so(machine: Commands) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    import tiphys

    source = Path(tiphys.__file__).parents[1]
    if not os.access(source, os.X_OK):
        pytest.skip("others may not read this installation")
    words = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-m", "tiphys"]
    environment = machine.environment | {"PYTHONDONTWRITEBYTECODE": "1"}
    for verb in ("up", "down", "delete"):
        done = subprocess.run([*words, verb], env=environment, capture_output=True, text=True, check=False)
        if "No module named" in done.stderr or "Permission denied" in done.stderr:
            pytest.skip("others may not read this installation")
        assert done.returncode == 1
        assert "needs root" in done.stderr
