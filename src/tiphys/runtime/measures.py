"""What containers and sandboxes use: the figures that a Runtime (types.py) is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stall:
    """Time that tasks waited for a resource: microseconds in all, and percent of the last 10, 60 and 300 seconds."""

    total: int = 0
    avg10: float = 0
    avg60: float = 0
    avg300: float = 0


@dataclass(frozen=True, slots=True)
class Pressure:
    """Some tasks waited, or all of them at once (Documentation/accounting/psi.rst)."""

    some: Stall
    full: Stall


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """What went to and from a block device: bytes and operations."""

    device: str
    """Its file, e.g. /dev/vda; "" when it has none."""
    major: int
    minor: int
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cgroup used: CPU in nanoseconds since its start, memory in bytes. What the kernel does not tell is 0."""

    cpu_nanoseconds: int
    memory_bytes: int
    memory_working_set: int
    pids: int = 0
    """Processes and threads."""
    time: float = 0
    """Seconds since the epoch when it was read."""
    cpu_user: int = 0
    cpu_system: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_nanoseconds: int = 0
    memory_limit: int = 0
    """0: none; of the cgroups above it, too, if lower."""
    memory_max: int = 0
    """The most it ever was."""
    memory_failures: int = 0
    """How often its limit was hit."""
    rss: int = 0
    cache: int = 0
    kernel: int = 0
    mapped_file: int = 0
    active_file: int = 0
    inactive_file: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    swap: int = 0
    oom_kills: int = 0
    pressure: Mapping[str, Pressure] = field(default_factory=dict)
    """By cpu, memory, io; empty on v1, which has none."""
    devices: tuple[DeviceUsage, ...] = ()
    """Where the cgroup is in the controller of I/O."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What files take: allocated bytes and inodes."""

    bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class Interface:
    """What went through a network interface since it was made."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class SandboxUsage:
    """Of the sandbox's cgroup with all that is below it, and of its network."""

    usage: Usage
    interfaces: tuple[Interface, ...] = ()
    """Without the loopback; empty in the network of the host."""


@dataclass(frozen=True, slots=True)
class Processes:
    """What a container's processes hold at this moment."""

    count: int = 0
    descriptors: int = 0
    sockets: int = 0
    open_files_limit: int = 0
    """RLIMIT_NOFILE, soft, of its first process; -1 for none."""
    threads_limit: int = 0
    """0: none."""
