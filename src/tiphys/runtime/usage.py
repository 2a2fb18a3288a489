"""What cgroups, processes, interfaces and files use: read from the kernel when somebody asks, never watched."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping

from tiphys.runtime import cgroups
from tiphys.runtime.measures import DeviceUsage, DiskUsage, Interface, Pressure, Processes, Stall, Usage
from tiphys.runtime.processes import now

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_NO_LIMIT = 1 << 62
_FAILURES = ("max", "oom")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG = 2000
"""Characters of a path; the kernel takes 4095, and a name has up to 255."""


def measure(layout: cgroups.Layout, path: str) -> Usage:
    """Of one cgroup; working set is memory without the inactive file cache, as cAdvisor has it."""
    return _v2(os.path.join(layout.v2, path)) if layout.v2 else _v1(layout, path)


def _v1(layout: cgroups.Layout, path: str) -> Usage:
    memory, cpu, cpuacct, pids = (
        os.path.join(layout.v1.get(name, ""), path) for name in ("memory", "cpu", "cpuacct", "pids")
    )
    used, stats = _number(memory, "memory.usage_in_bytes"), cgroups.counters(cgroups.read(memory, "memory.stat"))
    ticks = cgroups.counters(cgroups.read(cpuacct, "cpuacct.stat"))
    quota = cgroups.counters(cgroups.read(cpu, "cpu.stat"))
    events = cgroups.counters(cgroups.read(memory, "memory.oom_control"))
    return Usage(
        cpu_nanoseconds=_number(cpuacct, "cpuacct.usage"),
        cpu_user=ticks.get("user", 0) * _TICK,
        cpu_system=ticks.get("system", 0) * _TICK,
        periods=quota.get("nr_periods", 0),
        throttled_periods=quota.get("nr_throttled", 0),
        throttled_nanoseconds=quota.get("throttled_time", 0),
        memory_bytes=used,
        memory_working_set=max(used - stats.get("total_inactive_file", 0), 0),
        memory_limit=_limit(stats.get("hierarchical_memory_limit", 0)),
        memory_max=_number(memory, "memory.max_usage_in_bytes"),
        memory_failures=_number(memory, "memory.failcnt"),
        rss=stats.get("total_rss", 0),
        cache=stats.get("total_cache", 0),
        kernel=_number(memory, "memory.kmem.usage_in_bytes"),
        mapped_file=stats.get("total_mapped_file", 0),
        active_file=stats.get("total_active_file", 0),
        inactive_file=stats.get("total_inactive_file", 0),
        page_faults=stats.get("total_pgfault", 0),
        major_page_faults=stats.get("total_pgmajfault", 0),
        swap=stats.get("total_swap", 0),
        oom_kills=events.get("oom_kill", 0),
        pids=_number(pids, "pids.current"),
        devices=_blkio(os.path.join(layout.v1.get("blkio", ""), path)),
        time=now(),
    )


def _v2(directory: str) -> Usage:
    used, stats = _number(directory, "memory.current"), cgroups.counters(cgroups.read(directory, "memory.stat"))
    cpu = cgroups.counters(cgroups.read(directory, "cpu.stat"))
    events = cgroups.counters(cgroups.read(directory, "memory.events"))
    return Usage(
        cpu_nanoseconds=cpu.get("usage_usec", 0) * 1000,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_nanoseconds=cpu.get("throttled_usec", 0) * 1000,
        memory_bytes=used,
        memory_working_set=max(used - stats.get("inactive_file", 0), 0),
        memory_limit=_limit(_number(directory, "memory.max")),
        memory_max=_number(directory, "memory.peak"),
        memory_failures=sum(events.get(name, 0) for name in _FAILURES),
        rss=stats.get("anon", 0),
        cache=stats.get("file", 0),
        kernel=stats.get("kernel", 0),
        mapped_file=stats.get("file_mapped", 0),
        active_file=stats.get("active_file", 0),
        inactive_file=stats.get("inactive_file", 0),
        page_faults=stats.get("pgfault", 0),
        major_page_faults=stats.get("pgmajfault", 0),
        swap=_number(directory, "memory.swap.current"),
        oom_kills=events.get("oom_kill", 0),
        pids=_number(directory, "pids.current"),
        pressure=pressures(directory, "{}.pressure"),
        devices=parse_io(cgroups.read(directory, "io.stat")),
        time=now(),
    )


def pressures(directory: str, pattern: str) -> Mapping[str, Pressure]:
    """Pressure by resource of files such as cpu.pressure; empty where the kernel has none."""
    found: dict[str, Pressure] = {}
    for name in ("cpu", "memory", "io"):
        try:
            text = cgroups.read(directory, pattern.format(name))
        except OSError:  # the file is there, but accounting is off
            continue
        if text:
            found[name] = parse_pressure(text)
    return found


def parse_pressure(text: str) -> Pressure:
    """`some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for full."""
    stalls = {"some": Stall(), "full": Stall()}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        stalls[kind] = Stall(
            int(values["total"]), *(float(values[average]) for average in ("avg10", "avg60", "avg300"))
        )
    return Pressure(stalls["some"], stalls["full"])


def parse_io(text: str) -> tuple[DeviceUsage, ...]:
    """io.stat: `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0` a line."""
    found = []
    for line in text.splitlines():
        number, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        counts = [int(values.get(name, 0)) for name in ("rbytes", "wbytes", "rios", "wios")]
        if any(counts):
            found.append(_device(number, counts))
    return tuple(found)


def _blkio(directory: str) -> tuple[DeviceUsage, ...]:
    return parse_blkio(
        cgroups.read(directory, "blkio.throttle.io_service_bytes"),
        cgroups.read(directory, "blkio.throttle.io_serviced"),
    )


def parse_blkio(sizes: str, operations: str) -> tuple[DeviceUsage, ...]:
    """v1's two files: `254:0 Read 4096` a line."""
    found: dict[str, list[int]] = {}
    for text, place in ((sizes, 0), (operations, 2)):
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in ("Read", "Write"):
                counts = found.setdefault(words[0], [0, 0, 0, 0])
                counts[place + (words[1] == "Write")] = int(words[2])
    return tuple(_device(number, counts) for number, counts in found.items() if any(counts))


def _device(number: str, counts: list[int]) -> DeviceUsage:
    major, _, minor = number.partition(":")
    try:
        name = "/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{number}"))
    except OSError:
        name = ""
    return DeviceUsage(name, int(major), int(minor), *counts)


def interfaces(pid: int) -> tuple[Interface, ...]:
    """Those of the network namespace of a process, but the loopback."""
    with open(f"/proc/{pid}/net/dev", encoding="utf-8") as file:
        return parse_interfaces(file.read())


def parse_interfaces(text: str) -> tuple[Interface, ...]:
    """The table of /proc/net/dev: eight columns of what came in, eight of what went out."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        n = [int(word) for word in rest.split()]
        if name.strip() != "lo":
            found.append(Interface(name.strip(), *n[:4], *n[8:12]))
    return tuple(found)


def processes(layout: cgroups.Layout, path: str, first: int) -> Processes:
    """What all processes of a cgroup hold; `first` is the one whose limits count."""
    count = descriptors = sockets = 0
    for pid in set(cgroups.members(layout.directories(path)[0])):
        count += 1
        for kind in _descriptors(pid):
            descriptors += 1
            sockets += kind
    pids = os.path.join(layout.v2 or layout.v1.get("pids", ""), path)
    return Processes(count, descriptors, sockets, _open_files(first), _number(pids, "pids.max"))


def _descriptors(pid: int) -> Iterator[bool]:
    """For each descriptor, whether it is a socket."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except OSError:  # closed since
            continue


def _open_files(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
            line = next(line for line in file if line.startswith("Max open files"))
    except (OSError, StopIteration):
        return 0
    soft = line.split()[3]
    return int(soft) if soft.isdigit() else -1


_LONG_PATH = 2048
"""Characters: half of what the kernel takes in one call (PATH_MAX)."""


def disk(directory: str) -> DiskUsage:
    """Of a directory and all below it on the same file system, hard links once; du(1). However deep it is."""
    try:
        top = os.lstat(directory)
        if not stat.S_ISDIR(top.st_mode):
            return DiskUsage(top.st_blocks * 512, 1)
        root = os.open(directory, _DIRECTORY)
    except OSError:
        return DiskUsage()
    size, inodes, linked = top.st_blocks * 512, 1, set()
    for status in _below(root):
        if status.st_dev != top.st_dev:
            continue
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in linked:
                continue
            linked.add(status.st_ino)
        size, inodes = size + status.st_blocks * 512, inodes + 1
    return DiskUsage(size, inodes)


def _below(root: int) -> Iterator[os.stat_result]:
    """Everything below a directory, whose descriptor is closed at the end.

    Depth first, by names relative to a descriptor: where they would become longer than the kernel takes, the directory
    they lead to is opened and kept until all below it has been seen."""
    device = os.fstat(root).st_dev
    pending = [(root, ""), (root, ".")]
    """Directories to look into; "" means that the descriptor is done with."""
    try:
        while pending:
            base, path = pending.pop()
            if not path:
                os.close(base)
                continue
            try:
                descriptor = os.open(path, _DIRECTORY, dir_fd=base)
            except OSError:  # gone, or replaced by something else
                continue
            with _closing(descriptor):
                inside = []
                for status, name in _entries(descriptor):
                    yield status
                    if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                        inside.append(name)
                if inside and len(path) > _LONG:
                    base, path = os.dup(descriptor), "."
                    pending.append((base, ""))
                pending += [(base, f"{path}/{name}") for name in inside]
    finally:
        for base, path in pending:
            if not path:
                os.close(base)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _entries(directory: int) -> Iterator[tuple[os.stat_result, str]]:
    """What is in a directory that others may be changing."""
    try:
        with os.scandir(directory) as found:
            for entry in found:
                try:
                    yield entry.stat(follow_symlinks=False), entry.name
                except OSError:
                    continue
    except OSError:
        return


def _limit(value: int) -> int:
    return 0 if value >= _NO_LIMIT else value


def _number(directory: str, name: str) -> int:
    text = cgroups.read(directory, name).strip()
    return int(text) if text.isdigit() else 0
