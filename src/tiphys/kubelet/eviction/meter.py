"""Measures the machine and the pods for the eviction manager.

Memory of a node is what its share of the machine leaves after its own cgroup, and never more than what the machine
itself has left: several nodes on one machine are starved by their own pods, or together.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tiphys.api.quantity import Quantity
from tiphys.base.errors import TiphysError
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.eviction.figures import (
    NOTHING,
    ContainerFigures,
    FileSystem,
    NodeFigures,
    PodFigures,
    Room,
    Used,
)
from tiphys.kubelet.eviction.ranking import is_local
from tiphys.kubelet.machine import Machine, existing, meminfo
from tiphys.kubelet.node_resources import capacity
from tiphys.kubelet.podspec import Object, name_of, namespace_of, uid_of
from tiphys.kubelet.resources import amounts
from tiphys.kubelet.specs import cgroup_parent
from tiphys.runtime.types import Runtime
from tiphys.runtime.usage import disk

_KINDS = {"emptyDir": "kubernetes.io~empty-dir", "configMap": "kubernetes.io~configmap"}


@dataclass(frozen=True, slots=True)
class Disks:
    """Which of the node's directories are on file systems of their own."""

    dedicated_images: bool = False
    """Images are not where pods' volumes and logs are."""
    split: bool = False
    """What containers write is not where images are."""


class Meter(Protocol):
    """What the eviction manager asks."""

    def disks(self) -> Disks: ...

    async def node(self) -> NodeFigures: ...

    async def pod(
        self, pod: Object, containers: Mapping[str, str], *, memory: bool, storage: bool
    ) -> PodFigures | None:
        """Of one pod, `containers` by name and ID: memory and processes, and its disk, which takes long. None: it is
        just ending."""
        ...

    def image_room(self) -> Room:
        """Of the images' file system."""
        ...


class MachineMeter:
    """A `Meter` of the running machine."""

    def __init__(self, config: KubeletConfig, runtime: Runtime, machine: Machine) -> None:
        self._config = config
        self._runtime = runtime
        self._machine = machine
        self._images = config.image_dir or config.root_dir
        self._containers = config.container_dir or config.root_dir

    def disks(self) -> Disks:
        node, images, containers = (
            existing(path).stat().st_dev for path in (self._config.root_dir, self._images, self._containers)
        )
        return Disks(dedicated_images=images != node, split=images not in (node, containers))

    async def node(self) -> NodeFigures:
        """Reads a handful of kernel files."""
        own = self._working_set(self._config.cgroup_root)
        pods = self._working_set(f"{self._config.cgroup_root}/kubepods")
        whole = self.memory_capacity()
        left = meminfo("MemFree") + meminfo("Inactive(file)")
        if "memory" in self._config.capacity:
            left = min(left, max(whole - own, 0))
        allowed = max(whole - self._reserved(), 0)
        return NodeFigures(
            memory=Room(left, whole),
            allocatable=Room(max(allowed - pods, 0), allowed),
            nodefs=_file_system(self._config.root_dir),
            imagefs=_file_system(self._images),
            containerfs=_file_system(self._containers),
            pids=_processes(),
        )

    def image_room(self) -> Room:
        return _file_system(self._images).space

    def memory_capacity(self) -> int:
        """Bytes that the node says it has."""
        return capacity(self._config, self._machine)["memory"].value

    def _reserved(self) -> int:
        reserved = (amounts(source) for source in (self._config.system_reserved, self._config.kube_reserved))
        return sum(one.get("memory", Quantity(0)).value for one in reserved)

    def _working_set(self, cgroup: str) -> int:
        usage = self._runtime.cgroups.usage(cgroup)
        return usage.memory_working_set if usage is not None else 0

    async def pod(
        self, pod: Object, containers: Mapping[str, str], *, memory: bool, storage: bool
    ) -> PodFigures | None:
        try:
            found = PodFigures(containers={name: ContainerFigures() for name in containers})
            if memory:
                found = await self._memory(pod, containers)
            return await self._storage(pod, containers, found) if storage else found
        except (TiphysError, OSError):
            return None

    async def _memory(self, pod: Object, containers: Mapping[str, str]) -> PodFigures:
        used = {name: (await self._runtime.usage(id)).memory_working_set for name, id in containers.items()}
        whole = self._runtime.cgroups.usage(cgroup_parent(self._config, pod))
        return PodFigures(
            memory=whole.memory_working_set if whole is not None else sum(used.values()),
            processes=whole.pids if whole is not None else 0,
            containers={name: ContainerFigures(memory) for name, memory in used.items()},
        )

    async def _storage(self, pod: Object, containers: Mapping[str, str], found: PodFigures) -> PodFigures:
        roots = {name: await self._runtime.disk_usage(id) for name, id in containers.items()}
        logs, volumes, total = await asyncio.to_thread(self._files, pod, containers)
        for root in roots.values():
            total += Used(root.bytes, root.inodes)
        measured = {
            name: replace(one, rootfs=Used(roots[name].bytes, roots[name].inodes), logs=logs[name])
            for name, one in found.containers.items()
        }
        return replace(found, containers=measured, volumes=volumes, storage=total)

    def _logs(self, pod: Object) -> Path:
        return self._config.pod_log_dir(namespace_of(pod), name_of(pod), uid_of(pod))

    def _files(self, pod: Object, containers: Iterable[str]) -> tuple[dict[str, Used], dict[str, Used], Used]:
        """(logs by container, volumes by name, all of the node's disk that it uses but for its roots). Blocks."""
        directory = self._config.pod_dir(uid_of(pod))
        logs = {name: _used(self._logs(pod) / name) for name in containers}
        volumes: dict[str, Used] = {}
        total = _used(self._logs(pod)) + _used(directory / "etc-hosts")
        for volume in pod["spec"].get("volumes") or ():
            for kind in _KINDS.keys() & volume.keys():
                path = directory / "volumes" / _KINDS[kind] / volume["name"]
                volumes[volume["name"]] = found = _mounted(path) if os.path.ismount(path) else _used(path)
                total += found if is_local(volume) else NOTHING
        return logs, volumes, total


def _used(path: Path) -> Used:
    found = disk(str(path))
    return Used(found.bytes, found.inodes)


def _mounted(path: Path) -> Used:
    """Of a tmpfs, which knows by itself."""
    found = os.statvfs(path)
    return Used((found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree)


def _file_system(path: Path) -> FileSystem:
    found = os.statvfs(existing(path))
    space = Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
    return FileSystem(space, Room(found.f_ffree, found.f_files))


def _processes() -> Room:
    """Threads that the kernel still allows; it counts them as processes."""
    most = min(int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max"))
    running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    return Room(max(most - running, 0), most)
