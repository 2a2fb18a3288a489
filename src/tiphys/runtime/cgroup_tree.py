"""The machine's cgroups as the seam tells it (types.Cgroups): made, limited, read and removed by relative path.

Used by the runtime for changes of running containers, and by whoever arranges sandboxes in cgroups of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from tiphys.runtime import cgroups, processes, resources
from tiphys.runtime.measures import Usage
from tiphys.runtime.types import Resources, RuntimeFailure
from tiphys.runtime.usage import measure

_ENDLESS = 1 << 60
"""v1 says "no limit" as a number near 2**63."""


class CgroupTree:
    """See types.Cgroups. `layout` says where the hierarchies are mounted."""

    def __init__(self, layout: cgroups.Layout) -> None:
        self._layout = layout

    @property
    def version(self) -> int:
        """1 (also for a hybrid layout) or 2."""
        return 2 if self._layout.v2 else 1

    @property
    def swap(self) -> bool:
        """Whether swap can be limited: v2 shows the file in every cgroup but the root, v1 in all."""
        if not self._layout.v2:
            return os.path.exists(os.path.join(self._layout.v1.get("memory", ""), "memory.memsw.limit_in_bytes"))
        own = cgroups.read("/proc/self", "cgroup").rpartition("::")[2].strip().strip("/")
        return any(
            os.path.exists(os.path.join(entry.path, "memory.swap.max"))
            for entry in [*os.scandir(self._layout.v2), *os.scandir(os.path.join(self._layout.v2, own))]
            if entry.is_dir()
        )

    def set(self, path: str, limits: Resources) -> None:
        """Make what is missing, write the limits. Raises RuntimeFailure."""
        extra = resources.extras(limits)
        try:
            late = [] if self._layout.v2 else [name for name in extra if self._is_new(path, name)]
            if late or not self._exists(path):
                cgroups.create(self._layout, path, extra)
            for name in late:
                self._move_into(path, name)
        except OSError as error:
            raise RuntimeFailure(f"cgroup {path}: {error.filename}: {error.strerror}") from error
        resources.apply(self._layout, path, limits)

    def _exists(self, path: str) -> bool:
        return all(os.path.isdir(directory) for directory in self._layout.directories(path))

    def _is_new(self, path: str, controller: str) -> bool:
        root = self._layout.v1.get(controller)
        return root is not None and not os.path.isdir(os.path.join(root, path))

    def _move_into(self, path: str, controller: str) -> None:
        """The processes of a cgroup that gets one more v1 controller."""
        target = os.path.join(self._layout.v1[controller], path, "cgroup.procs")
        for pid in cgroups.read(self._layout.directories(path)[0], "cgroup.procs").split():
            try:
                processes.write(target, pid)
            except ProcessLookupError:
                continue

    def get(self, path: str) -> Resources | None:
        """As the kernel has them; None when there is no such cgroup."""
        if not self._exists(path):
            return None
        return self._get_v2(os.path.join(self._layout.v2, path)) if self._layout.v2 else self._get_v1(path)

    def _get_v1(self, path: str) -> Resources:
        cpu = os.path.join(self._layout.v1.get("cpu", ""), path)
        limit = _number(cgroups.read(os.path.join(self._layout.v1.get("memory", ""), path), "memory.limit_in_bytes"))
        return Resources(
            cpu_shares=_number(cgroups.read(cpu, "cpu.shares")),
            cpu_quota=max(_number(cgroups.read(cpu, "cpu.cfs_quota_us")), 0),
            cpu_period=_number(cgroups.read(cpu, "cpu.cfs_period_us")) or 100_000,
            memory_limit=0 if limit >= _ENDLESS else limit,
        )

    def _get_v2(self, directory: str) -> Resources:
        quota, _, period = cgroups.read(directory, "cpu.max").partition(" ")
        weight = _number(cgroups.read(directory, "cpu.weight"))
        return Resources(
            cpu_shares=(weight - 1) * 262142 // 9999 + 2 if weight else 0,
            cpu_weight=weight,
            cpu_quota=_number(quota),
            cpu_period=_number(period) or 100_000,
            memory_limit=_number(cgroups.read(directory, "memory.max")),
        )

    def usage(self, path: str) -> Usage | None:
        """Of everything in it; None when there is no such cgroup."""
        return measure(self._layout, path) if self._exists(path) else None

    def children(self, path: str) -> Sequence[str]:
        """Names of the cgroups in it, in whatever hierarchy they are left."""
        found: set[str] = set()
        for directory in self._layout.directories(path, ("cpuset", "hugetlb")):
            try:
                found |= {entry.name for entry in os.scandir(directory) if entry.is_dir()}
            except FileNotFoundError:
                continue
        return sorted(found)

    def remove(self, path: str) -> None:
        """Kill what is inside and remove it with all below it."""
        left = cgroups.remove(self._layout.directories(path, ("cpuset", "hugetlb")))
        if left:
            raise RuntimeFailure(f"could not remove {', '.join(left)}")


def _number(text: str) -> int:
    """0 for what is no number: "max", or a file that is not there."""
    text = text.strip()
    return int(text) if text.lstrip("-").isdigit() else 0
