"""`delete` leaves nothing: processes, mounts, cgroups, devices, routes, tables, files, kubeconfig entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e


def machine_state(home: Path) -> dict[str, set[str]]:
    """What a cluster with files in `home` might leave behind."""
    return {
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": set(Path("/proc/net/route").read_text().splitlines()),
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").rglob("*tiphys*") if path.is_dir()},
        "logs": {str(path) for where in ("pods", "containers") for path in Path("/var/log", where).glob("*")},
        "processes": {
            entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit() and speaks_of(entry, home)
        },
    }


def speaks_of(process: Path, home: Path) -> bool:
    """Whether a process has `home` in its arguments or environment, but for this one and its ancestors."""
    try:
        told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return False
    return str(home).encode() in told


def test_delete_leaves_nothing(machine: Commands, images: list[Path]) -> None:
    before = machine_state(machine.home)
    config = machine.home / "traces"
    words = [word for file in images for word in ("--image", str(file))]
    machine.tiphys("up", "traces", *words, "--kubeconfig", str(config))
    own = Commands(machine.home, Path(machine.environment["TIPHYS_RUN"]))
    own.environment["KUBECONFIG"] = str(config)
    own.kubectl("run", "web", "--image=nginx")
    own.wait("pod/web", "condition=Ready")
    machine.tiphys("delete", "traces", "--kubeconfig", str(config))
    assert machine_state(machine.home) == before
    assert not (machine.home / "data" / "traces").exists()
    assert "tiphys-traces" not in config.read_text()


def test_delete_of_what_is_not_there_says_what_is(machine: Commands) -> None:
    done = machine.tiphys("delete", "nobody", check=False)
    assert done.returncode == 1
    assert "no cluster 'nobody'" in done.stderr
