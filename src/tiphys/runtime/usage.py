"""What a container has used, read from its cgroup."""

from __future__ import annotations

import os

from tiphys.runtime import cgroups
from tiphys.runtime.types import Usage


def measure(layout: cgroups.Layout, path: str) -> Usage:
    """CPU time, memory, working set (memory without the inactive file cache, as cAdvisor has it), processes."""
    if layout.v2:
        return _v2(os.path.join(layout.v2, path))
    memory = os.path.join(layout.v1.get("memory", ""), path)
    used = _number(memory, "memory.usage_in_bytes")
    inactive = cgroups.counters(cgroups.read(memory, "memory.stat")).get("total_inactive_file", 0)
    return Usage(
        cpu_nanoseconds=_number(os.path.join(layout.v1.get("cpuacct", ""), path), "cpuacct.usage"),
        memory_bytes=used,
        memory_working_set=max(used - inactive, 0),
        pids=_number(os.path.join(layout.v1.get("pids", ""), path), "pids.current"),
    )


def _v2(directory: str) -> Usage:
    used = _number(directory, "memory.current")
    inactive = cgroups.counters(cgroups.read(directory, "memory.stat")).get("inactive_file", 0)
    return Usage(
        cpu_nanoseconds=cgroups.counters(cgroups.read(directory, "cpu.stat")).get("usage_usec", 0) * 1000,
        memory_bytes=used,
        memory_working_set=max(used - inactive, 0),
        pids=_number(directory, "pids.current"),
    )


def _number(directory: str, name: str) -> int:
    text = cgroups.read(directory, name).strip()
    return int(text) if text.isdigit() else 0
