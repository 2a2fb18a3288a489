"""`delete` leaves nothing: processes, mounts, cgroups, devices, routes, tables, files, kubeconfig entries."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import Commands

pytestmark = pytest.mark.e2e


def machine_state() -> dict[str, set[str]]:
    """What a cluster might leave behind, apart from what belongs to other clusters."""
    return {
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": set(Path("/proc/net/route").read_text().splitlines()),
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").rglob("*tiphys*") if path.is_dir()},
        "logs": {str(path) for path in Path("/var/log").glob("pods/*")},
        "processes": set(
            subprocess.run(["pgrep", "-f", "tiphys"], capture_output=True, text=True, check=False).stdout.split()
        ),
    }


def test_delete_leaves_nothing(machine: Commands, images: list[Path]) -> None:
    before = machine_state()
    config = machine.home / "traces"
    words = [word for file in images for word in ("--image", str(file))]
    machine.tiphys("up", "traces", *words, "--kubeconfig", str(config))
    own = Commands(machine.home, Path(machine.environment["TIPHYS_RUN"]))
    own.environment["KUBECONFIG"] = str(config)
    own.kubectl("run", "web", "--image=nginx")
    own.wait("pod/web", "condition=Ready")
    machine.tiphys("delete", "traces", "--kubeconfig", str(config))
    assert machine_state() == before
    assert not (machine.home / "data" / "traces").exists()
    assert "tiphys-traces" not in config.read_text()


def test_delete_of_what_is_not_there_says_what_is(machine: Commands) -> None:
    done = machine.tiphys("delete", "nobody", check=False)
    assert done.returncode == 1
    assert "no cluster 'nobody'" in done.stderr
