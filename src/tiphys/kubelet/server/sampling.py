"""Takes samples of a node: of the machine by /proc, of pods and containers by the runtime. Only when somebody asks.

Several nodes on one machine share it: such a node is what its own cgroup uses, as a node that runs in a container is.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.base.errors import TiphysError
from tiphys.kubelet.labels import Record
from tiphys.kubelet.machine import existing, meminfo
from tiphys.kubelet.podspec import Object, name_of, namespace_of
from tiphys.kubelet.server.sample import (
    ContainerSample,
    FileSystem,
    NodeSample,
    PodSample,
    Rates,
    VolumeSample,
    totals,
)
from tiphys.kubelet.specs import cgroup_parent
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.measures import DiskUsage, SandboxUsage, Usage
from tiphys.runtime.types import ContainerStatus
from tiphys.runtime.usage import disk, interfaces, pressures

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet

NOTHING = Usage(0, 0, 0)
EPHEMERAL = ("emptyDir", "configMap", "secret", "projected", "downwardAPI")
"""Volumes that are files of the kubelet's own; those of them on disk count as ephemeral storage."""
INNER = ("veth", "docker", "nerdctl", "tiphys")
"""Interfaces of the node that only lead to its own pods."""
FRESH = 1.0
"""Seconds for which a sample answers further requests: whoever asks often does not make the node work more."""
SHARE = 10.0
"""A sample that took long, for somebody has very many files, answers for so many times as long."""
LONGEST = 60.0
PAUSE = 0.25
"""Seconds between the two looks that a first rate takes."""


class Sampler:
    """Samples of one kubelet's node, with rates from one to the next."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._clock = kubelet.clock
        self._locks: dict[tuple[bool, bool], asyncio.Lock] = {}
        self._kept: dict[tuple[bool, bool], tuple[float, NodeSample]] = {}
        """Until when it is good, and a sample."""
        self.rates = Rates()

    async def rated(self, disks: bool) -> NodeSample:
        """A sample whose rates are known."""
        sample = await self.take(disks=disks)
        if not self.rates.update(totals(sample)):
            await self._clock.sleep(PAUSE)
            self.rates.update(totals(await self._take(disks=False, processes=False)))
        return sample

    async def take(self, *, disks: bool = False, processes: bool = False) -> NodeSample:
        """A sample, at most FRESH old. `disks` and `processes` say whether to look into directories and /proc."""
        kind = (disks, processes)
        async with self._locks.setdefault(kind, asyncio.Lock()):
            until, kept = self._kept.get(kind, (0.0, None))
            began = self._clock.monotonic()
            if kept is None or began >= until:
                kept = await self._take(disks=disks, processes=processes)
                took = self._clock.monotonic() - began
                self._kept[kind] = (began + min(LONGEST, max(FRESH, SHARE * took)), kept)
            return kept

    async def claims(self) -> list[tuple[Object, VolumeSample]]:
        """The volumes behind claims, with their pods."""
        workers = [worker for worker in self._kubelet.workers.values() if worker.state.running()]
        found = []
        for pod in [worker.state.pod for worker in workers]:
            mounted = await asyncio.to_thread(self._volumes, pod, True)
            found += [(pod, volume) for volume in mounted]
        return found

    async def _take(self, *, disks: bool, processes: bool) -> NodeSample:
        known = {status.spec.id: status for status in await self._kubelet.runtime.containers()}
        pods = []
        for worker in list(self._kubelet.workers.values()):
            sandbox = worker.state.sandbox
            if sandbox is not None and sandbox.running:
                pods.append(await self._pod(worker, known, disks=disks, processes=processes))
        return await self._node(pods, disks=disks)

    async def _node(self, pods: list[PodSample], *, disks: bool) -> NodeSample:
        kubelet, config = self._kubelet, self._kubelet.config
        shared = bool(config.capacity)
        usage = machine_usage()
        if shared:
            usage = kubelet.runtime.cgroups.usage(config.cgroup_root) or usage
        sample = NodeSample(
            time=self._clock.time(),
            name=config.node_name,
            started_at=boot_time(),
            usage=usage,
            memory_capacity=kubelet.agent.machine.memory,
            swap_capacity=meminfo("SwapTotal"),
            pods=pods,
            groups={
                "kubelet": own_usage(),
                "pods": kubelet.runtime.cgroups.usage(f"{config.cgroup_root}/kubepods") or NOTHING,
            },
            interfaces=[one for one in interfaces(os.getpid()) if not one.name.startswith(INNER)],
            pressure=pressures("/proc/pressure", "{}"),
        )
        return await self._with_disks(sample) if disks else sample

    async def _with_disks(self, sample: NodeSample) -> NodeSample:
        config = self._kubelet.config
        images = await self._kubelet.runtime.images.list()
        return replace(
            sample,
            filesystem=file_system(config.root_dir),
            images=file_system(config.image_dir or config.root_dir),
            images_used=sum(image.size for image in images),
            cores=len(cores := processors()),
            sockets=len({package for package, _ in cores}),
            pid_max=_number("/proc/sys/kernel/pid_max"),
            processes=sum(name.isdigit() for name in os.listdir("/proc")),
        )

    async def _pod(
        self, worker: PodWorker, known: Mapping[str, ContainerStatus], *, disks: bool, processes: bool
    ) -> PodSample:
        pod, sandbox = worker.state.pod, worker.state.sandbox
        assert sandbox is not None
        used: SandboxUsage | None = None
        try:
            used = await self._kubelet.runtime.sandbox_usage(sandbox.id)
        except (TiphysError, OSError):
            used = None  # it has just ended
        containers = []
        for record in worker.state.running():
            try:
                containers.append(await self._container(worker, record, known, disks=disks, processes=processes))
            except (TiphysError, OSError):
                continue  # likewise
        return PodSample(
            pod=pod,
            started_at=sandbox.created_at,
            cgroup=cgroup_parent(self._kubelet.config, pod),
            usage=used.usage if used is not None else None,
            interfaces=used.interfaces if used is not None else (),
            containers=containers,
            volumes=await asyncio.to_thread(self._volumes, pod) if disks else (),
        )

    async def _container(
        self,
        worker: PodWorker,
        record: Record,
        known: Mapping[str, ContainerStatus],
        *,
        disks: bool,
        processes: bool,
    ) -> ContainerSample:
        runtime, config = self._kubelet.runtime, self._kubelet.config
        pod, limits = worker.state.pod, known[record.id].spec.resources if record.id in known else None
        logs = config.pod_log_dir(namespace_of(pod), name_of(pod), worker.uid) / record.name
        return ContainerSample(
            record=record,
            usage=await runtime.usage(record.id),
            cgroup=f"{cgroup_parent(config, pod)}/{record.id}",
            rootfs=await runtime.disk_usage(record.id) if disks else None,
            logs=await asyncio.to_thread(disk, str(logs)) if disks else None,
            processes=await runtime.processes(record.id) if processes else None,
            cpu_shares=limits.cpu_shares if limits else 0,
            cpu_quota=limits.cpu_quota if limits else 0,
            cpu_period=limits.cpu_period if limits else 0,
            memory_limit=limits.memory_limit if limits else 0,
        )

    def _volumes(self, pod: Object, only_claims: bool = False) -> list[VolumeSample]:
        found = []
        for volume in pod["spec"].get("volumes") or ():
            claim = str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")
            if "ephemeral" in volume:
                claim = f"{name_of(pod)}-{volume['name']}"
            kind = next((kind for kind in EPHEMERAL if kind in volume), "")
            if only_claims and not claim:
                continue
            path = self._path(pod, volume["name"])
            if path is None or not (claim or kind) or not path.is_dir():
                continue
            room = file_system(path)
            in_memory = kind == "emptyDir" and bool((volume["emptyDir"] or {}).get("medium"))
            used = disk(str(path)) if kind else DiskUsage(room.used, room.inodes - room.inodes_free)
            counts = bool(kind) and not in_memory
            found.append(VolumeSample(volume["name"], room, used, claim, counts))
        return found

    def _path(self, pod: Object, volume: str) -> Path | None:
        try:
            return self._kubelet.volumes.path(pod, volume)
        except (TiphysError, OSError, LookupError):
            return None  # not mounted, or no more


def file_system(path: Path) -> FileSystem:
    """Of the file system that a path is on, or would be."""
    found = os.statvfs(existing(path))
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return FileSystem(total, free, total - found.f_bfree * found.f_frsize, found.f_files, found.f_ffree)


def machine_usage() -> Usage:
    """Of everything that runs on this machine."""
    total, free, available = meminfo("MemTotal"), meminfo("MemFree"), meminfo("MemAvailable")
    user, system = machine_cpu()
    faults = _pairs("/proc/vmstat")
    return Usage(
        cpu_nanoseconds=user + system,
        cpu_user=user,
        cpu_system=system,
        memory_bytes=total - free,
        memory_working_set=total - available,
        rss=meminfo("AnonPages"),
        cache=meminfo("Cached"),
        mapped_file=meminfo("Mapped"),
        page_faults=faults.get("pgfault", 0),
        major_page_faults=faults.get("pgmajfault", 0),
        swap=meminfo("SwapTotal") - meminfo("SwapFree"),
        pressure=pressures("/proc/pressure", "{}"),
        time=time.time_ns() / 1e9,
    )


def machine_cpu() -> tuple[int, int]:
    """Nanoseconds that all cores were busy since the machine started: for programs, and for the kernel."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, *rest = (int(field) for field in fields)
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return (user + nice) * tick, (system + sum(rest[:3])) * tick


def own_usage() -> Usage:
    """Of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    user, system = int(used.ru_utime * 1e9), int(used.ru_stime * 1e9)
    return Usage(
        cpu_nanoseconds=user + system,
        cpu_user=user,
        cpu_system=system,
        memory_bytes=pages,
        memory_working_set=pages,
        rss=pages,
        page_faults=used.ru_minflt,
        major_page_faults=used.ru_majflt,
        time=time.time_ns() / 1e9,
    )


def processors() -> set[tuple[str, str]]:
    """(package, core) of each physical core that runs."""
    found = set()
    for directory in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology"):
        found.add(((directory / "physical_package_id").read_text(), (directory / "core_id").read_text()))
    return found


def boot_time() -> float:
    """When the machine started, in seconds since the epoch."""
    return float(_pairs("/proc/stat").get("btime", 0))


def _pairs(path: str) -> dict[str, int]:
    pairs = (line.split() for line in Path(path).read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return 0
