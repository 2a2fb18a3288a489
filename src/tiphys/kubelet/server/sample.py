"""What a node, its pods and their containers use at one moment: plain data. `sampling` takes it, the pages show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.kubelet.labels import Record
from tiphys.kubelet.podspec import Object
from tiphys.runtime.measures import DiskUsage, Interface, Pressure, Processes, Usage


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What statvfs(3) says, in bytes and inodes."""

    capacity: int = 0
    available: int = 0
    used: int = 0
    inodes: int = 0
    inodes_free: int = 0


@dataclass(frozen=True, slots=True)
class VolumeSample:
    """A volume of a pod."""

    name: str
    filesystem: FileSystem
    used: DiskUsage
    claim: str = ""
    """Name of its PersistentVolumeClaim."""
    counts: bool = False
    """Whether it is part of the pod's ephemeral storage."""


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """A running container. Disks and processes are None where nobody asked for them."""

    record: Record
    usage: Usage
    cgroup: str = ""
    rootfs: DiskUsage | None = None
    logs: DiskUsage | None = None
    processes: Processes | None = None
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    memory_limit: int = 0

    @property
    def name(self) -> str:
        return self.record.name


@dataclass(frozen=True, slots=True)
class PodSample:
    """A pod with a running sandbox."""

    pod: Object
    started_at: float
    cgroup: str
    usage: Usage | None
    interfaces: Sequence[Interface]
    containers: Sequence[ContainerSample]
    volumes: Sequence[VolumeSample] = ()


@dataclass(frozen=True, slots=True)
class NodeSample:
    """The node and all its pods. `groups` are the kubelet's system containers by name."""

    time: float
    name: str
    started_at: float
    usage: Usage
    memory_capacity: int
    swap_capacity: int
    pods: Sequence[PodSample] = ()
    groups: Mapping[str, Usage] = field(default_factory=dict)
    interfaces: Sequence[Interface] = ()
    pressure: Mapping[str, Pressure] = field(default_factory=dict)
    filesystem: FileSystem | None = None
    images: FileSystem | None = None
    images_used: int = 0
    cores: int = 0
    sockets: int = 0
    """Of the machine's processors."""
    pid_max: int = 0
    processes: int = 0


class Rates:
    """CPU use in nanocores, from the totals of two samples."""

    LONGEST = 120.0
    """Seconds; what was seen longer ago says nothing about now."""
    SHORTEST = 0.1
    STEADY = 1.0
    """Seconds that a rate is over at least, once there is one."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, int] = {}

    def of(self, key: str) -> int | None:
        """The rate as it is known; None before the second look."""
        return self._rates.get(key)

    def update(self, totals: Mapping[str, tuple[float, int]]) -> bool:
        """Take in (seconds, nanoseconds used) by key; what is missing is forgotten. True: each has a rate now."""
        for key, (time, total) in totals.items():
            before, used = self._seen.get(key, (-self.LONGEST, 0))
            least = self.STEADY if key in self._rates else self.SHORTEST
            if least <= time - before < self.LONGEST and total >= used:
                self._rates[key] = int((total - used) / (time - before))
            elif time - before >= self.LONGEST or total < used:
                self._rates.pop(key, None)
            if time - before >= least or total < used:
                self._seen[key] = (time, total)
        for key in [key for key in self._seen if key not in totals]:
            del self._seen[key]
            self._rates.pop(key, None)
        return all(key in self._rates for key in totals)


def totals(sample: NodeSample) -> dict[str, tuple[float, int]]:
    """What `Rates` needs of a sample."""
    found = {"/": (sample.usage.time, sample.usage.cpu_nanoseconds)}
    for name, usage in sample.groups.items():
        found[name] = (usage.time, usage.cpu_nanoseconds)
    for pod in sample.pods:
        if pod.usage is not None:
            found[pod.cgroup] = (pod.usage.time, pod.usage.cpu_nanoseconds)
        for one in pod.containers:
            found[one.record.id] = (one.usage.time, one.usage.cpu_nanoseconds)
    return found
