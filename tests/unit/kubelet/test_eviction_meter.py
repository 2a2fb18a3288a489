"""What is measured on a real machine: shares of memory, disks, and what a pod has on them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.eviction import meter as meters
from tiphys.kubelet.eviction.figures import Room
from tiphys.kubelet.eviction.meter import MachineMeter
from tiphys.kubelet.machine import Machine
from tiphys.runtime.measures import DiskUsage, Usage
from tiphys.runtime.types import NoSuchContainer

MIB = 1 << 20
GIB = 1 << 30


class Runtime:
    """Working sets by cgroup, the roots of containers by ID."""

    def __init__(self, **sets: int) -> None:
        self.sets = {name.replace("__", "/"): size for name, size in sets.items()}
        self.roots: dict[str, DiskUsage] = {}
        self.cgroups = self

    def usage(self, what: str) -> Any:
        if what in self.sets:
            return Usage(0, self.sets[what], self.sets[what], pids=7)
        return None

    async def disk_usage(self, id: str) -> DiskUsage:
        if id not in self.roots:
            raise NoSuchContainer(id)
        return self.roots[id]


def config(root: Path, **given: Any) -> KubeletConfig:
    return KubeletConfig(node_name="n", root_dir=root / "kubelet", log_dir=root / "logs", cgroup_root="own", **given)


def measure(root: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Any:
    monkeypatch.setattr(meters, "meminfo", lambda field: {"MemFree": 3 * GIB, "Inactive(file)": GIB}.get(field, 0))
    machine = Machine(cpus=1, memory=16 * GIB, disk=GIB)
    meter = MachineMeter(config(root, **given), runtime, machine)  # type: ignore[arg-type]  # what it asks for
    return asyncio.run(meter.node())


def test_a_node_alone_has_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(tmp_path, Runtime(own=GIB, own__kubepods=GIB), monkeypatch)
    assert found.memory == Room(4 * GIB, 16 * GIB)


def test_a_node_that_shares_the_machine_has_what_its_own_pods_leave_of_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = {"capacity": {"memory": "4Gi"}}
    assert measure(tmp_path, Runtime(own=3 * GIB), monkeypatch, **share).memory == Room(GIB, 4 * GIB)
    assert measure(tmp_path, Runtime(own=5 * GIB), monkeypatch, **share).memory == Room(0, 4 * GIB)


def test_a_share_is_never_more_than_the_machine_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(tmp_path, Runtime(own=0), monkeypatch, capacity={"memory": "8Gi"})
    assert found.memory == Room(4 * GIB, 8 * GIB)


def test_pods_have_what_is_not_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"system_reserved": {"memory": "1Gi"}, "kube_reserved": {"memory": "512Mi"}}
    found = measure(tmp_path, Runtime(own__kubepods=2 * GIB), monkeypatch, **given)
    assert found.allocatable == Room(16 * GIB - 1536 * MIB - 2 * GIB, 16 * GIB - 1536 * MIB)


def test_disks_and_processes_are_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(tmp_path, Runtime(), monkeypatch)
    assert 0 < found.nodefs.space.available <= found.nodefs.space.capacity
    assert found.imagefs.space.capacity == found.containerfs.space.capacity == found.nodefs.space.capacity
    assert 0 < found.pids.available < found.pids.capacity


def test_a_pods_disk_is_its_roots_logs_and_own_volumes(tmp_path: Path) -> None:
    settings = config(tmp_path)
    volumes = settings.pod_dir("u") / "volumes"
    data = volumes / "kubernetes.io~empty-dir" / "data"
    secret = volumes / "kubernetes.io~secret" / "secret"
    logs = settings.pod_log_dir("ns", "p", "u") / "main"
    for directory, size in ((data, 2 * MIB), (secret, 8 * MIB), (logs, MIB)):
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(b"x" * size)
    pod = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {
            "containers": [{"name": "main"}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "secret", "secret": {}}],
        },
    }
    runtime = Runtime()
    runtime.roots["c1"] = DiskUsage(4 * MIB, 9)
    meter = MachineMeter(settings, runtime, Machine(1, GIB, GIB))  # type: ignore[arg-type]  # what it asks for
    found = asyncio.run(meter.pod(pod, {"main": "c1"}, memory=False, storage=True))
    assert found is not None
    assert found.storage is not None
    main = found.containers["main"]
    assert main.rootfs is not None
    assert main.logs is not None
    assert (main.rootfs.bytes, main.rootfs.inodes) == (4 * MIB, 9)
    assert MIB <= main.logs.bytes < 1.1 * MIB
    assert 2 * MIB <= found.volumes["data"].bytes < 2.1 * MIB
    assert 7 * MIB <= found.storage.bytes < 7.2 * MIB
    assert asyncio.run(meter.pod(pod, {"main": "gone"}, memory=False, storage=True)) is None
