"""Limits as cgroup files: which file gets which value, on v1 and on v2, and device rules.

Pure tables plus one function that writes them. Weights follow runc: cpu.shares becomes cpu.weight so that 1024
shares are weight 100.
"""

from __future__ import annotations

import math
import os
from typing import Any

from tiphys.runtime import cgroups, processes
from tiphys.runtime.types import Resources, RuntimeFailure

DEFAULT_DEVICES = (
    "c *:* m", "b *:* m",
    "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",
    "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm",
)  # fmt: skip
"""null, zero, full, random, urandom, tty, console, ptmx, pts/*; any node may be made but not opened (as runc)."""


def v1_files(resources: Resources) -> list[tuple[str, str, str]]:
    """(controller, file, value), in the order in which they must be written."""
    out: list[tuple[str, str, str]] = []
    if resources.cpu_shares:
        out.append(("cpu", "cpu.shares", str(resources.cpu_shares)))
    if resources.cpu_quota:
        out.append(("cpu", "cpu.cfs_period_us", str(resources.cpu_period)))
        out.append(("cpu", "cpu.cfs_quota_us", str(resources.cpu_quota)))
    if resources.cpuset_cpus:
        out.append(("cpuset", "cpuset.cpus", resources.cpuset_cpus))
    if resources.memory_limit:
        out.append(("memory", "memory.limit_in_bytes", str(resources.memory_limit)))
    if resources.pids_limit:
        out.append(("pids", "pids.max", "max" if resources.pids_limit < 0 else str(resources.pids_limit)))
    return out


def v2_files(resources: Resources) -> list[tuple[str, str]]:
    """(file, value)."""
    out: list[tuple[str, str]] = []
    if resources.cpu_shares:
        out.append(("cpu.weight", str(weight(resources.cpu_shares))))
    if resources.cpu_quota:
        quota = "max" if resources.cpu_quota < 0 else str(resources.cpu_quota)
        out.append(("cpu.max", f"{quota} {resources.cpu_period}"))
    if resources.cpuset_cpus:
        out.append(("cpuset.cpus", resources.cpuset_cpus))
    if resources.memory_limit:
        out.append(("memory.max", "max" if resources.memory_limit < 0 else str(resources.memory_limit)))
    if resources.pids_limit:
        out.append(("pids.max", "max" if resources.pids_limit < 0 else str(resources.pids_limit)))
    return out


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000) for cpu.shares (2 to 262144): 2 is 1, 1024 is 100, 262144 is 10000."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def plan(layout: cgroups.Layout, path: str, resources: Resources, devices: list[str] | None = None) -> dict[str, Any]:
    """All that `cgroups.prepare` needs to make the cgroup `path`. `devices` (lines beyond the default ones, e.g.
    "c 10:200 rwm") restricts devices; None leaves them alone."""
    extra = ["cpuset"] if resources.cpuset_cpus else []
    writes = [(file, [value]) for file, value in _targets(layout, path, resources)]
    rules = None if devices is None else [*DEFAULT_DEVICES, *devices]
    if rules is not None and "devices" in layout.v1:
        directory = os.path.join(layout.v1["devices"], path)
        writes.append((os.path.join(directory, "devices.deny"), ["a"]))
        writes.append((os.path.join(directory, "devices.allow"), rules))
    return {
        "v1": layout.v1,
        "v2": layout.v2,
        "path": path,
        "extra": extra,
        "directories": layout.directories(path, extra),
        "writes": writes,
        "devices": rules,
    }


def apply(layout: cgroups.Layout, path: str, resources: Resources) -> None:
    """Write the limits of the existing cgroup `path`. Raises RuntimeFailure naming the file and the value."""
    for file, value in _targets(layout, path, resources):
        try:
            processes.write(file, value)
        except OSError as error:
            raise RuntimeFailure(f"cgroup: {value!r} to {file}: {error.strerror}") from error


def _targets(layout: cgroups.Layout, path: str, resources: Resources) -> list[tuple[str, str]]:
    if layout.v2:
        return [(os.path.join(layout.v2, path, name), value) for name, value in v2_files(resources)]
    return [
        (os.path.join(layout.v1[controller], path, name), value)
        for controller, name, value in v1_files(resources)
        if controller in layout.v1
    ]
