"""What a machine may have besides what clusters need: told with what follows where it is missing."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster import features
from tiphys.cluster.findings import Finding


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine; tests put files there."""
    monkeypatch.setattr(features, "ROOT", tmp_path)
    monkeypatch.setattr("tiphys.runtime.apparmor.SYS", tmp_path / "sys")
    return tmp_path


def write(machine: Path, name: str, text: str = "") -> None:
    (machine / name).parent.mkdir(parents=True, exist_ok=True)
    (machine / name).write_text(text)


def finding(name: str) -> Finding:
    return features.CHECKS[name]()


def test_an_empty_machine_can_do_without_all_of_them_but_the_system_calls(machine: Path) -> None:
    for name, check in features.CHECKS.items():
        found = check()
        assert found.name == name
        assert found.needed == (name == "system calls")
        if not found.ok:
            assert found.advice
            assert found.effect or found.needed


def test_old_kernels_lack_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.10.0-generic")
    assert (finding("system calls").ok, finding("system calls").detail) == (False, "lacks mount_setattr")


def test_apparmor_needs_the_kernel_and_a_parser(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding("AppArmor").detail == "not enabled in the kernel"
    write(machine, "sys/module/apparmor/parameters/enabled", "Y\n")
    assert finding("AppArmor").detail == "not enabled in the kernel"
    write(machine, "sys/kernel/security/apparmor/profiles")
    monkeypatch.setattr("tiphys.runtime.apparmor.shutil.which", lambda *_, **__: None)
    assert (finding("AppArmor").detail, finding("AppArmor").advice) == (
        "no apparmor_parser",
        "apt-get install apparmor",
    )
    monkeypatch.setattr("tiphys.runtime.apparmor.shutil.which", lambda name, **_: name)
    assert finding("AppArmor").ok


def test_selinux_is_told_where_it_is_on(machine: Path) -> None:
    assert finding("SELinux").ok
    write(machine, "sys/fs/selinux/enforce", "1")
    assert finding("SELinux").effect == "containers with seLinuxOptions are refused"


@pytest.mark.parametrize(
    ("files", "swap", "lacking"),
    [
        ((), False, "lacks cpuset, hugetlb"),
        (("memory/memory.memsw.limit_in_bytes", "cpuset/tasks", "hugetlb/tasks"), True, "cpuset, hugetlb"),
        (("init.scope/memory.swap.max",), True, "lacks cpuset, hugetlb"),
    ],
)
def test_controllers_and_swap(machine: Path, files: tuple[str, ...], swap: bool, lacking: str) -> None:
    for name in files:
        write(machine, f"sys/fs/cgroup/{name}")
    assert finding("swap").ok is swap
    assert finding("more cgroup controllers").detail == lacking


def test_what_lacks_says_what_follows(machine: Path) -> None:
    write(machine, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory pids\n")
    assert finding("more cgroup controllers").effect == "huge pages are not limited"


def test_low_limits_of_watches(machine: Path) -> None:
    write(machine, "proc/sys/fs/inotify/max_user_watches", "8192")
    write(machine, "proc/sys/fs/inotify/max_user_instances", "16")
    assert finding("inotify").advice == "sysctl fs.inotify.max_user_instances=128"


def test_subordinate_ids_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: object) -> tuple[int, int]:
        raise Permanent("kubelet user assigned ID 1 is not a multiple of 65536")

    monkeypatch.setattr("tiphys.kubelet.userns.node_range", refuse)
    assert finding("pods' IDs").detail == "kubelet user assigned ID 1 is not a multiple of 65536"
