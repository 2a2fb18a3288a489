"""Cgroups as trees of plain files: which file has which value, on v1 and on v2."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tiphys.runtime import cgroups, resources, spec
from tiphys.runtime.cgroup_tree import CgroupTree
from tiphys.runtime.containers import merged
from tiphys.runtime.types import ContainerSpec, Resources, RuntimeFailure

FULL = Resources(
    cpu_shares=512,
    cpu_quota=50_000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    memory_limit=1 << 20,
    memory_swap=0,
    pids_limit=-1,
    hugepages=(("2MB", 4 << 20),),
    unified=(("memory.high", "900000"), ("memory.oom.group", "1")),
)
V2_FILES = (
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.max",
    "memory.swap.max",
    "memory.high",
    "memory.low",
    "memory.min",
    "memory.oom.group",
    "pids.max",
    "hugetlb.2MB.max",
    "cgroup.subtree_control",
)
V1_FILES = {
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "pids": ("pids.max",),
    "hugetlb": ("hugetlb.2MB.limit_in_bytes",),
}


def fill(directory: Path, names: tuple[str, ...]) -> Path:
    """The kernel makes these files by itself; here they must be there."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).touch()
    (directory / "cgroup.controllers").write_text("cpu cpuset hugetlb io memory pids misc\n")
    return directory


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    fill(tmp_path, V2_FILES)
    fill(tmp_path / "node", V2_FILES)
    fill(tmp_path / "node" / "pod", V2_FILES)
    return tmp_path


def v1_layout(root: Path, *paths: str) -> cgroups.Layout:
    for controller, names in V1_FILES.items():
        for path in ("", *paths):
            fill(root / controller / path, names)
    return cgroups.Layout({controller: str(root / controller) for controller in V1_FILES})


def test_v2_each_limit_is_in_its_file(v2: Path) -> None:
    CgroupTree(cgroups.Layout({}, str(v2))).set("node/pod", FULL)
    assert {name: (v2 / "node/pod" / name).read_text() for name in V2_FILES} == {
        "cpu.weight": "59",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "memory.max": "1048576",
        "memory.swap.max": "0",
        "memory.high": "900000",
        "memory.low": "",
        "memory.min": "",
        "memory.oom.group": "1",
        "pids.max": "max",
        "hugetlb.2MB.max": "4194304",
        "cgroup.subtree_control": "",
    }


def test_v2_a_weight_that_is_given_counts_before_the_shares(v2: Path) -> None:
    CgroupTree(cgroups.Layout({}, str(v2))).set("node/pod", Resources(cpu_shares=512, cpu_weight=20))
    assert (v2 / "node/pod/cpu.weight").read_text() == "20"


def test_v2_controllers_are_handed_on_by_every_ancestor(v2: Path) -> None:
    cgroups.create(cgroups.Layout({}, str(v2)), "node/pod/new")
    # Each is one write of its own: what a plain file keeps is the last.
    assert (v2 / "node/cgroup.subtree_control").read_text() == "+pids"
    assert (v2 / "node/pod/new").is_dir()


def test_v2_limits_are_read_back(v2: Path) -> None:
    tree = CgroupTree(cgroups.Layout({}, str(v2)))
    tree.set("node/pod", Resources(cpu_shares=1024, cpu_weight=39, cpu_quota=20_000, memory_limit=4096))
    found = tree.get("node/pod")
    assert found == Resources(cpu_shares=998, cpu_weight=39, cpu_quota=20_000, memory_limit=4096)
    tree.set("node/pod", Resources(cpu_quota=-1, memory_limit=-1))
    assert found is not None
    assert tree.get("node/pod") == Resources(cpu_shares=998, cpu_weight=39)
    assert tree.get("node/other") is None


def test_v1_each_limit_is_in_its_file(tmp_path: Path) -> None:
    tree = CgroupTree(v1_layout(tmp_path, "pod"))
    tree.set("pod", FULL)
    written = {
        name: (tmp_path / where / "pod" / name).read_text() for where, names in V1_FILES.items() for name in names
    }
    assert written == {
        "cpu.shares": "512",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_period_us": "100000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "memory.limit_in_bytes": "1048576",
        "memory.memsw.limit_in_bytes": "1048576",
        "pids.max": "max",
        "hugetlb.2MB.limit_in_bytes": "4194304",
    }
    assert tree.get("pod") == Resources(cpu_shares=512, cpu_quota=50_000, memory_limit=1 << 20)


def test_v1_no_limit_at_all_reads_as_none(tmp_path: Path) -> None:
    tree = CgroupTree(v1_layout(tmp_path, "pod"))
    (tmp_path / "memory/pod/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cpu/pod/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/pod/cpu.cfs_period_us").write_text("100000\n")
    assert tree.get("pod") == Resources()


def test_v1_a_cgroup_that_gets_a_cpuset_late_takes_its_processes_along(tmp_path: Path) -> None:
    layout = v1_layout(tmp_path)
    layout.v1 = {name: point for name, point in layout.v1.items() if name != "hugetlb"}
    for controller in ("cpu", "memory", "pids"):
        fill(tmp_path / controller / "pod", V1_FILES[controller])
    (tmp_path / "cpu/pod/cgroup.procs").write_text("41\n42\n")
    (tmp_path / "cpuset/cpuset.mems").write_text("0\n")
    with pytest.raises(RuntimeFailure, match=r"cpuset.*cgroup\.procs|cpuset\.cpus"):
        CgroupTree(layout).set("pod", Resources(cpuset_cpus="1"))  # plain directories get no files by themselves
    assert (tmp_path / "cpuset/pod").is_dir()


def test_what_the_machine_has_no_controller_for_is_left_out(tmp_path: Path) -> None:
    layout = cgroups.Layout({"cpu": str(tmp_path)})
    found = [Path(file).name for file, _ in resources.targets(layout, "pod", FULL)]
    assert found == ["cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"]


def test_a_refused_value_is_named(tmp_path: Path) -> None:
    tree = CgroupTree(cgroups.Layout({"cpu": str(tmp_path)}))
    with pytest.raises(RuntimeFailure, match=r"failed to write '512' to .*pod/cpu.shares: No such file"):
        tree.set("pod", Resources(cpu_shares=512))


def test_children_and_removal(tmp_path: Path) -> None:
    layout = cgroups.Layout({"cpu": str(tmp_path / "cpu"), "cpuset": str(tmp_path / "cpuset")})
    for path in ("cpu/kubepods/poda", "cpuset/kubepods/podb", "cpu/kubepods/burstable"):
        (tmp_path / path).mkdir(parents=True)
    tree = CgroupTree(layout)
    assert tree.children("kubepods") == ["burstable", "poda", "podb"]
    tree.remove("kubepods/podb")
    tree.remove("kubepods/podb")
    assert tree.children("kubepods") == ["burstable", "poda"]
    assert tree.children("elsewhere") == []


def test_limits_of_a_pod_are_written_above_the_cgroup_of_its_pause_process() -> None:
    plan = resources.plan(cgroups.Layout({}, "/u"), "pod/pause", Resources(pids_limit=5), limited="pod")
    assert plan["writes"] == [("/u/pod/pids.max", ["5"])]
    assert plan["directories"] == ["/u/pod/pause"]


def test_a_change_keeps_what_it_does_not_speak_of() -> None:
    changed = merged(FULL, Resources(memory_limit=2 << 20, memory_swap=0))
    assert (changed.memory_limit, changed.cpu_shares, changed.memory_swap) == (2 << 20, 512, 0)


def test_resources_survive_the_way_to_disk_and_back() -> None:
    made = ContainerSpec("c", "s", "i", ("a",), resources=FULL)
    assert spec.container(spec.plain(made)) == made


def test_a_cgroup_that_is_busy_for_a_moment_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pod").mkdir()
    refusals = [errno.EBUSY, errno.EBUSY]
    remove = os.rmdir

    def rmdir(path: str) -> None:
        if refusals:
            raise OSError(refusals.pop(), "busy")
        remove(path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    assert cgroups.remove([str(tmp_path / "pod")]) == []
    assert not (tmp_path / "pod").exists()


def test_a_removed_cgroup_limits_its_parent_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = fill(tmp_path / "pod", V1_FILES["cpu"]) / "cpu.cfs_quota_us"
    seen: list[str] = []
    monkeypatch.setattr(os, "rmdir", lambda path: seen.append(quota.read_text()))
    cgroups.remove([str(tmp_path / "pod")])
    assert seen == ["-1"]
