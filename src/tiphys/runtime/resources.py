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
    if resources.cpuset_mems:
        out.append(("cpuset", "cpuset.mems", resources.cpuset_mems))
    if resources.memory_limit:
        out.append(("memory", "memory.limit_in_bytes", str(resources.memory_limit)))
    if (both := _memory_and_swap(resources)) is not None:
        out.append(("memory", "memory.memsw.limit_in_bytes", str(both)))
    if resources.pids_limit:
        out.append(("pids", "pids.max", _limit(resources.pids_limit)))
    out += [("hugetlb", f"hugetlb.{size}.limit_in_bytes", str(limit)) for size, limit in resources.hugepages]
    return out


def _memory_and_swap(resources: Resources) -> int | None:
    """v1 limits memory and swap together, and only where memory is limited."""
    if resources.memory_swap is None or resources.memory_limit <= 0:
        return None
    return -1 if resources.memory_swap < 0 else resources.memory_limit + resources.memory_swap


def v2_files(resources: Resources) -> list[tuple[str, str]]:
    """(file, value)."""
    out: list[tuple[str, str]] = []
    if resources.cpu_weight or resources.cpu_shares:
        out.append(("cpu.weight", str(resources.cpu_weight or weight(resources.cpu_shares))))
    if resources.cpu_quota:
        out.append(("cpu.max", f"{_limit(resources.cpu_quota)} {resources.cpu_period}"))
    if resources.cpuset_cpus:
        out.append(("cpuset.cpus", resources.cpuset_cpus))
    if resources.cpuset_mems:
        out.append(("cpuset.mems", resources.cpuset_mems))
    if resources.memory_limit:
        out.append(("memory.max", _limit(resources.memory_limit)))
    if resources.memory_swap is not None:
        out.append(("memory.swap.max", _limit(resources.memory_swap)))
    if resources.pids_limit:
        out.append(("pids.max", _limit(resources.pids_limit)))
    out += [(f"hugetlb.{size}.max", str(limit)) for size, limit in resources.hugepages]
    return out + list(resources.unified)


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000) for cpu.shares (2 to 262144): 2 is 1, 1024 is 100, 262144 is 10000."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def plan(
    layout: cgroups.Layout, path: str, resources: Resources, devices: list[str] | None = None, limited: str = ""
) -> dict[str, Any]:
    """All that `cgroups.prepare` needs to make the cgroup `path`. `devices` (lines beyond the default ones, e.g.
    "c 10:200 rwm") restricts devices; None leaves them alone. The limits are those of `limited`, a cgroup above
    `path`, where that is given."""
    extra = extras(resources)
    writes = [(file, [value]) for file, value in targets(layout, limited or path, resources)]
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


def extras(resources: Resources) -> list[str]:
    """The v1 controllers beyond the usual ones that these limits need."""
    wanted = {"cpuset": resources.cpuset_cpus or resources.cpuset_mems, "hugetlb": resources.hugepages}
    return [name for name, asked in wanted.items() if asked]


def apply(layout: cgroups.Layout, path: str, resources: Resources) -> None:
    """Write the limits of the existing cgroup `path`. Raises RuntimeFailure naming the file and the value.

    Some limits must stay below others, as memory below memory and swap: what is refused is tried once more at the end.
    """
    wanted = targets(layout, path, resources)
    refused = [(file, value) for file, value in wanted if _refusal(file, value)]
    for file, value in refused:
        if error := _refusal(file, value):
            raise RuntimeFailure(f"failed to write {value!r} to {file}: {error.strerror}")


def _refusal(file: str, value: str) -> OSError | None:
    try:
        processes.write(file, value)
    except OSError as error:
        return error
    return None


def targets(layout: cgroups.Layout, path: str, resources: Resources) -> list[tuple[str, str]]:
    """(file, value) on this machine; what it has no controller for is left out."""
    if layout.v2:
        return [
            (os.path.join(layout.v2, path, name), value)
            for name, value in v2_files(resources)
            if not name.startswith("hugetlb.") or layout.has_hugetlb()
        ]
    return [
        (os.path.join(layout.v1[controller], path, name), value)
        for controller, name, value in v1_files(resources)
        if controller in layout.v1
    ]
