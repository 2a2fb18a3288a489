"""Cgroups of sandboxes and containers, on v1, v2 and hybrid hosts (cgroups(7), cgroup-v2.rst).

A cgroup is named by one relative path, e.g. tiphys/demo/node1/kubepods/burstable/podUID; on v1 it is a directory
in each hierarchy that Tiphys uses. Used by the runtime and, for reading the OOM counter, by shims.
"""

from __future__ import annotations

import errno
import os
import select
import signal

from tiphys.runtime import devices, processes, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

USED = ("cpu", "cpuacct", "memory", "devices", "pids")
"""The v1 controllers that every container is put in; cpuset and hugetlb only when asked for."""
V2_CONTROLLERS = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")


class Layout:
    """Where the host's hierarchies are mounted: `v1` by controller, `v2` the unified one or ""."""

    def __init__(self, v1: Mapping[str, str], v2: str = "") -> None:
        self.v1 = dict(v1)
        self.v2 = v2

    def controllers(self) -> list[str]:
        """The v1 hierarchies in use, each mounted directory once."""
        seen: dict[str, str] = {}
        for name in USED:
            if name in self.v1:
                seen.setdefault(self.v1[name], name)
        return list(seen.values())

    def directories(self, path: str, extra: Iterable[str] = ()) -> list[str]:
        """Every directory that the cgroup `path` consists of; `extra` names v1 controllers beyond the usual."""
        names = [*self.controllers(), *(name for name in extra if name in self.v1)]
        roots = [self.v2] if self.v2 else [self.v1[name] for name in names]
        return [os.path.join(root, path) for root in dict.fromkeys(roots)]

    def has_hugetlb(self) -> bool:
        """Whether huge pages can be limited."""
        if not self.v2:
            return "hugetlb" in self.v1
        return "hugetlb" in read(self.v2, "cgroup.controllers").split()

    def all_roots(self) -> list[str]:
        """Every mounted hierarchy, also those that Tiphys seldom uses."""
        return [self.v2] if self.v2 else list(dict.fromkeys(self.v1.values()))


def detect(mountinfo: str = "/proc/self/mountinfo") -> Layout:
    """Read the host's layout. v2 counts only when it has controllers: in a hybrid layout v1 has them.

    Empty for root of a user namespace (rootless mode), who may not change the machine's: no limits there."""
    if not userns.is_initial():
        return Layout({})
    v1: dict[str, str] = {}
    unified = ""
    with open(mountinfo, encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            point = left.split()[4]
            if kind == "cgroup":
                for name in options.split(","):
                    if name not in ("rw", "ro") and "=" not in name:
                        v1.setdefault(name, point)
            elif kind == "cgroup2" and not unified:
                unified = point
    return Layout({}, unified) if unified and _has_controllers(unified) else Layout(v1)


def _has_controllers(root: str) -> bool:
    try:
        with open(os.path.join(root, "cgroup.controllers"), encoding="utf-8") as file:
            return "memory" in file.read().split()
    except OSError:
        return False


def prepare(plan: dict[str, Any]) -> None:
    """Make a cgroup as `resources.plan` wrote it down: its directories, then each file's values."""
    create(Layout(plan["v1"], plan["v2"]), plan["path"], plan["extra"])
    for file, values in plan["writes"]:
        processes.write(file, *values)
    if plan["v2"] and plan["devices"] is not None:
        devices.restrict(plan["directories"][0], plan["devices"])


def create(layout: Layout, path: str, extra: Iterable[str] = ()) -> None:
    """Make the cgroup and its parents; `extra` names v1 controllers beyond the usual."""
    if layout.v2:
        _create_v2(layout.v2, path)
    for directory in layout.directories(path, extra):
        os.makedirs(directory, exist_ok=True)
    if not layout.v2 and "cpuset" in extra and "cpuset" in layout.v1:
        _inherit_cpuset(layout.v1["cpuset"], path)


def _create_v2(root: str, path: str) -> None:
    """Enable the controllers in every ancestor; only then has the leaf its files."""
    current = root
    for part in path.split("/"):
        _enable(current)
        current = os.path.join(current, part)
        os.makedirs(current, exist_ok=True)


def _enable(directory: str) -> None:
    """Hand on to the children of a v2 cgroup each controller that it has."""
    enabled = read(directory, "cgroup.subtree_control").split()
    for name in read(directory, "cgroup.controllers").split():
        if name not in V2_CONTROLLERS or name in enabled:
            continue
        try:
            processes.write(os.path.join(directory, "cgroup.subtree_control"), f"+{name}")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP):
                raise


def _inherit_cpuset(root: str, path: str) -> None:
    """A new v1 cpuset is empty and takes no process: copy the parent's, level by level."""
    parent = root
    for part in path.split("/"):
        current = os.path.join(parent, part)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not read(current, name).strip():
                processes.write(os.path.join(current, name), read(parent, name).strip())
        parent = current


def read(directory: str, name: str) -> str:
    """A cgroup file's text; "" when it does not exist."""
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if error.errno == errno.ENODEV:  # the cgroup was removed while it was read
            return ""
        raise


def counters(text: str) -> dict[str, int]:
    """`name value` lines, as in memory.stat."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def oom_kills(directories: Iterable[str]) -> int:
    """How many processes of the cgroup the OOM killer has killed."""
    total = 0
    for directory in directories:
        total += counters(read(directory, "memory.oom_control")).get("oom_kill", 0)
        total += counters(read(directory, "memory.events")).get("oom_kill", 0)
    return total


def members(directory: str) -> Iterator[int]:
    """The processes of a cgroup and of all below it."""
    for base, _, _ in os.walk(directory):
        for pid in read(base, "cgroup.procs").split():
            yield int(pid)


def kill(directories: Iterable[str], timeout: float = 10.0) -> bool:
    """SIGKILL everything in the cgroup and wait until it has ended; False if something is left after `timeout`."""
    for directory in directories:
        # A process may fork while we read: go round until nobody is left.
        while pids := [pid for pid in members(directory) if pid]:
            if not _kill_all(pids, timeout):
                return False
    return True


def _kill_all(pids: list[int], timeout: float) -> bool:
    handles: list[int] = []
    poller = select.poll()
    try:
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            handles.append(handle)
            poller.register(handle, select.POLLIN)
            _signal(handle)
        waiting = set(handles)
        while waiting:
            ready = poller.poll(timeout * 1000)
            if not ready:
                return False
            for handle, _ in ready:
                poller.unregister(handle)
                waiting.discard(handle)
        return True
    finally:
        for handle in handles:
            os.close(handle)


def _signal(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove(directories: Iterable[str]) -> list[str]:
    """Kill what is inside and remove the cgroup with all below it. Returns what could not be removed."""
    left: list[str] = []
    for directory in directories:
        kill([directory])
        for base, _, _ in os.walk(directory, topdown=False):
            _lift_quota(base)
            if not _rmdir(base):
                left.append(base)
    return left


def _lift_quota(directory: str) -> None:
    """v1 counts a removed cgroup's quota against what its parent may be set to until the last zombie is gone."""
    try:
        processes.write(os.path.join(directory, "cpu.cfs_quota_us"), "-1")
    except OSError:
        return


def _rmdir(directory: str) -> bool:
    """A process counts as a member for a moment longer than it lives: a busy cgroup is tried again for a second."""
    for milliseconds in (1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 0):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY or not milliseconds:
                return False
            select.poll().poll(milliseconds)
            kill([directory])
        else:
            return True
    return False
