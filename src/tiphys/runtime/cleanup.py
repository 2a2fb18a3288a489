"""purge: remove every trace of a runtime directory, whoever left it and in whatever state."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from tiphys.base.files import remove_tree
from tiphys.runtime import cgroups, handlers, pause_program, processes, spec, syscalls
from tiphys.runtime.sandboxes import own_cgroup


def purge(root: Path, name: str) -> list[str]:
    """Kill all processes of the runtime at `root`, remove its mounts, the cgroups tiphys/`name`, and its files.

    Networks are removed by node.NodeNetwork.teardown and node.teardown_cluster_network. Returns what could not be
    removed, for the user; an empty list means that nothing is left.
    """
    root = Path(root).absolute()
    layout = cgroups.detect()
    left = _end_processes(set(_processes(root)))
    for path in {f"tiphys/{name}", own_cgroup(root), *_cgroup_parents(root)}:
        left += [f"cgroup {item}" for item in cgroups.remove(layout.directories(path, ["cpuset"]))]
        handlers.drop_cgroups(path, whole=True)
    _remove_empty(layout)
    left += unmount_below(root)
    if not any(item.startswith("mount ") for item in left):
        try:
            remove_tree(root)
        except OSError as error:
            left.append(f"directory {root}: {error.strerror}")
    return left


def _processes(root: Path) -> Iterator[int]:
    """The helper, shims, pause processes, and containers' first processes."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                arguments = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            directory = os.fsencode(str(root))
            if _is_helper(arguments, directory) or _is_pause(entry, arguments, directory):
                yield int(entry)
    for state in (*root.glob("sandboxes/*/state.json"), *root.glob("containers/*/state.json")):
        content = spec.load(state) or {}
        pid = content.get("pid", 0)
        if pid and content.get("boot") == processes.boot_id() and processes.start_time(pid) == content["start_time"]:
            yield int(pid)


def _is_helper(arguments: list[bytes], directory: bytes) -> bool:
    """The helper or one of its forks, which have the directory as their last argument but one."""
    known = any(b"tiphys.runtime.helper" in item for item in arguments)
    return known and directory in arguments and b"-S" in arguments


def _is_pause(pid: str, arguments: list[bytes], directory: bytes) -> bool:
    if arguments[:1] != [b"/pause"]:
        return False
    try:
        environment = Path("/proc", pid, "environ").read_bytes()
    except OSError:
        return False
    return pause_program.MARK.encode() + b"=" + directory in environment.split(b"\0")


def _end_processes(pids: Iterable[int]) -> list[str]:
    poller = select.poll()
    waiting: dict[int, int] = {}
    left: list[str] = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            continue
        except OSError as error:
            left.append(f"process {pid}: {error.strerror}")
            continue
        waiting[handle] = pid
        poller.register(handle, select.POLLIN)
    while waiting:
        ready = poller.poll(10_000)
        if not ready:
            break
        for handle, _ in ready:
            poller.unregister(handle)
            os.close(handle)
            del waiting[handle]
    return left + [f"process {pid}" for pid in waiting.values()]


def _cgroup_parents(root: Path) -> Iterator[str]:
    for path in root.glob("sandboxes/*/spec.json"):
        parent = (spec.load(path) or {}).get("cgroup_parent", "").strip("/")
        if parent:
            yield parent


def _remove_empty(layout: cgroups.Layout) -> None:
    """The directory `tiphys` itself, when no other cluster uses it."""
    for base in layout.all_roots():
        try:
            os.rmdir(os.path.join(base, "tiphys"))
        except OSError:
            continue


def unmount_below(root: Path) -> list[str]:
    """Unmount everything below `root`, the innermost first. Returns what could not be unmounted, and why."""
    left: list[str] = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    for point in sorted(points, reverse=True):
        if point == str(root) or point.startswith(f"{root}/"):
            try:
                syscalls.umount(point)
            except OSError as error:
                left.append(f"mount {point}: {error.strerror}")
    return left
