"""The doctor tells the truth, also on machines that are not like this one."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from tiphys.cluster import doctor
from tiphys.cluster.findings import Finding


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine; tests put files there."""
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    return tmp_path


def write(machine: Path, name: str, text: str = "") -> None:
    (machine / name).parent.mkdir(parents=True, exist_ok=True)
    (machine / name).write_text(text)


def finding(name: str) -> Finding:
    return next(one for one in doctor.examine() if one.name == name)


def test_a_machine_without_proc_and_sys_lacks_things_and_breaks_nothing(machine: Path) -> None:
    found = {one.name: one for one in doctor.examine()}
    for name in ("namespaces", "overlayfs", "cgroups", "seccomp", "IPv4 forwarding", "capabilities"):
        assert not found[name].ok
        assert found[name].advice
    json.dumps([one.as_dict() for one in found.values()])


def test_cgroups_of_the_second_version(machine: Path) -> None:
    write(machine, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    assert finding("cgroups").detail == "v2 with cpu, memory, pids"
    write(machine, "sys/fs/cgroup/cgroup.controllers", "cpu\n")
    assert finding("cgroups").detail == "v2, lacks memory, pids"


def test_cgroups_of_the_first_version_may_be_mounted_together(machine: Path) -> None:
    for name in ("cpu,cpuacct", "memory", "pids"):
        (machine / "sys/fs/cgroup" / name).mkdir(parents=True)
    assert finding("cgroups").ok


def test_overlayfs_may_be_a_module_that_is_not_loaded(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-test")
    write(machine, "proc/filesystems", "nodev\tproc\n\text4\n")
    assert not finding("overlayfs").ok
    (machine / "lib/modules/6.1.0-test/kernel/fs/overlayfs").mkdir(parents=True)
    assert "not loaded yet" in finding("overlayfs").detail
    write(machine, "proc/filesystems", "nodev\tproc\nnodev\toverlay\n")
    assert finding("overlayfs").detail == "overlay"


@pytest.mark.parametrize(
    ("release", "ok"),
    [
        ("6.18.44-fc", True),
        ("5.12.0", True),
        ("5.10.0", False),
        ("5.4.0-generic", False),
        ("4.19", False),
        ("odd", False),
    ],
)
def test_the_kernel_s_age(release: str, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert finding("kernel").ok is ok


def test_capabilities_are_read_from_the_kernel(machine: Path) -> None:
    write(machine, "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
    assert finding("capabilities").ok
    write(machine, "proc/self/status", "CapEff:\t0000000000000000\n")
    assert finding("capabilities").detail == "lacks NET_ADMIN, SYS_CHROOT, SYS_ADMIN, MKNOD"
