"""`delete` leaves nothing: processes, mounts, cgroups, devices, routes, tables, files, kubeconfig entries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e
NAME = "traces"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: web, image: nginx, volumeMounts: [{name: memory, mountPath: /memory}]}]
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
"""


class Traces:
    """What a cluster may leave on a machine that other clusters use as well."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.run = Path(commands.environment["TIPHYS_RUN"])
        self.pod: str = commands.get("pod", "web")["metadata"]["uid"]
        self.bridge = f"tiphys{json.loads((commands.home / 'clusters' / f'{NAME}.json').read_text())['index']}"

    def found(self) -> dict[str, list[str]]:
        """By kind; kinds of which nothing is there are left out."""
        places = (str(self.commands.home / "data" / NAME), str(self.run / "netns" / self.bridge))
        every = {
            "mounts": [line for line in lines("/proc/self/mountinfo") if any(place in line for place in places)],
            "links": [path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(self.bridge)],
            "routes": [line for line in lines("/proc/net/route") if line.split()[0] == self.bridge],
            "tables": [line for line in tables() if line.split()[-1:] == [self.bridge]],
            "forwarding": [text for text in lines("/run/tiphys-forwarding.json") if f'"{self.bridge}"' in text],
            "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/tiphys/*{NAME}")],
            "logs": [str(path) for path in Path("/var/log/pods").glob(f"*{self.pod}*")],
            "log links": [
                str(path) for path in Path("/var/log/containers").glob("*") if self.pod in str(path.readlink())
            ],
            "processes": [path.name for path in Path("/proc").iterdir() if speaks_of(path, places[0])],
            "files": [str(path) for path in (self.run / NAME, Path(places[0])) if path.exists()],
            "clusters": [str(path) for path in (self.commands.home / "clusters").glob(f"{NAME}.*")],
            "contexts": [line for line in lines(str(self.commands.home / NAME)) if f"tiphys-{NAME}" in line],
        }
        return {kind: things for kind, things in every.items() if things}


def lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []


def tables() -> list[str]:
    """nftables' tables, where there is a program to ask."""
    if shutil.which("nft") is None:
        return []
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines()


def speaks_of(process: Path, place: str) -> bool:
    """Whether a process, this one apart, has a directory in its arguments."""
    try:
        return process.name.isdigit() and place.encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture
def traces(machine: Commands, images: list[Path]) -> Iterator[Traces]:
    """Those of a cluster with a running pod, in a kubeconfig of its own."""
    own = Commands(machine.home, Path(machine.environment["TIPHYS_RUN"]))
    own.environment["KUBECONFIG"] = str(machine.home / NAME)
    own.tiphys("up", NAME, *(word for file in images for word in ("--image", str(file))))
    own.kubectl("apply", "-f", "-", stdin=POD)
    own.wait("pod/web", "condition=Ready")
    yield Traces(own)
    own.tiphys("delete", NAME, check=False)


def test_delete_leaves_nothing(traces: Traces) -> None:
    seen = set(traces.found())
    assert {"mounts", "links", "routes", "forwarding", "cgroups", "logs", "log links", "processes", "contexts"} <= seen
    traces.commands.tiphys("delete", NAME)
    assert traces.found() == {}


def test_down_leaves_no_process_and_delete_then_nothing(traces: Traces) -> None:
    traces.commands.tiphys("down", NAME)
    assert "processes" not in traces.found()
    traces.commands.tiphys("delete", NAME)
    assert traces.found() == {}


@pytest.mark.parametrize("seconds", [0.15, 0.3, 0.45])
def test_a_delete_that_was_killed_is_finished_by_the_next(traces: Traces, seconds: float) -> None:
    first = subprocess.Popen([sys.executable, "-m", "tiphys", "delete", NAME, "-q"], env=traces.commands.environment)
    try:
        first.wait(seconds)
    except subprocess.TimeoutExpired:
        first.kill()
        first.wait()
        traces.commands.tiphys("delete", NAME, check=False)
    assert traces.found() == {}


def test_a_cluster_whose_data_were_removed_can_be_deleted(traces: Traces) -> None:
    data = traces.commands.home / "data" / NAME
    (data / "cluster.json").unlink()
    shutil.rmtree(data / "store")
    traces.commands.tiphys("delete", NAME)
    assert traces.found() == {}


def test_a_spoilt_kubeconfig_does_not_keep_the_cluster(traces: Traces) -> None:
    file = traces.commands.home / NAME
    file.write_text("{broken")
    done = traces.commands.tiphys("delete", NAME, check=False)
    assert done.returncode == 1
    assert f"cluster {NAME}: not removed: context tiphys-{NAME}: kubeconfig {file} is not YAML" in done.stderr
    assert traces.found() == {}


def test_delete_of_what_is_not_there_says_what_is(machine: Commands) -> None:
    done = machine.tiphys("delete", "nobody", check=False)
    assert done.returncode == 1
    assert "no cluster 'nobody'" in done.stderr
