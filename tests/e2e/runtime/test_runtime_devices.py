"""Device rules on cgroup v2, tried on whatever cgroup2 tree the machine has (also a hybrid one)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime import devices
from tiphys.runtime.cgroups import Layout
from tiphys.runtime.cleanup import purge
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.resources import DEFAULT_DEVICES
from tiphys.runtime.types import Security

pytestmark = pytest.mark.e2e


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    trees = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    if os.geteuid() != 0 or not trees:
        pytest.skip("needs root and a cgroup2 tree")
    path = Path(trees[0], f"tiphys-test-{os.getpid()}")
    path.mkdir()
    yield path
    path.rmdir()


def inside(cgroup: Path, command: str) -> str:
    script = f"echo 0 > {cgroup}/cgroup.procs; {command}"
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False).stderr


def test_what_no_rule_allows_is_refused(cgroup: Path, tmp_path: Path) -> None:
    devices.restrict(str(cgroup), [*DEFAULT_DEVICES, "c 1:11 w"])
    assert inside(cgroup, "head -c 1 /dev/zero > /dev/null; : > /dev/full") == ""
    assert inside(cgroup, f"mknod {tmp_path}/disk b 254 0") == ""
    assert "not permitted" in inside(cgroup, f"head -c 1 {tmp_path}/disk")
    assert "not permitted" in inside(cgroup, "head -c 1 /dev/kmsg")
    assert inside(cgroup, ": > /dev/kmsg") == ""


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="x 1:1"):
        devices.program(["x 1:1 rwm"])


def test_containers_run_on_a_cgroup2_tree(machine: Any, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout({}, str(cgroup.parent))
    monkeypatch.setattr("tiphys.runtime.cgroups.detect", lambda: layout)
    show = "mknod /disk b 254 0; cat /disk; mount | grep cgroup; touch /sys/fs/cgroup/x; cat /proc/self/cgroup"

    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")
        assert cgroup.parent.joinpath(f"tiphys/{machine.name}/box/main").is_dir()
        assert cgroup.parent.joinpath(f"tiphys/{machine.name}/box/pause").is_dir()
        result = await runtime.exec_sync("main", ["sh", "-c", show], 5)
        assert b"cat: can't open '/disk': Operation not permitted" in result.stderr
        assert b"Read-only file system" in result.stderr
        assert b"on /sys/fs/cgroup type cgroup2 (ro," in result.stdout
        assert result.stdout.endswith(b"0::/\n")
        await runtime.stop_container("main", 0)
        assert not cgroup.parent.joinpath(f"tiphys/{machine.name}/box/main").exists()

    machine.run(scenario)
    assert purge(machine.root, machine.name) == []


def test_privileged_containers_see_the_whole_cgroup2_tree(
    machine: Any, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiphys.runtime.cgroups.detect", lambda: Layout({}, str(cgroup.parent)))

    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000", security=Security(privileged=True))
        path = f"tiphys/{machine.name}/box/main"
        script = f"tail -1 /proc/self/cgroup; cat /sys/fs/cgroup/{path}/cgroup.procs | wc -l"
        result = await runtime.exec_sync("main", ["sh", "-c", script], 5)
        assert result.stdout.decode().split() == [f"0::/{path}", "4"]

    machine.run(scenario)
    assert purge(machine.root, machine.name) == []
