"""Small facts and acts about processes that helper, shims and runtime share."""

from __future__ import annotations

import errno
import os
import time

from tiphys.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(error: OSError) -> str:
    """An OSError for the user: what failed, where, and why, without Python's decoration."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


def write(path: str, *values: str) -> None:
    """Write a kernel file, each value in one write(2)."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        for value in values:
            os.write(handle, value.encode())
    except OSError as failure:
        failure.filename = path
        raise
    finally:
        os.close(handle)


def start_time(pid: int) -> int:
    """Clock ticks from boot to the process's start, which tells it from a later one of the same pid; 0 if gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def identity(pid: int) -> list[Any] | None:
    """[uid, gid, [group ...]] of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            rows = dict(line.split(":", 1) for line in file if line.startswith(("Uid:", "Gid:", "Groups:")))
    except (FileNotFoundError, ProcessLookupError):
        return None
    uid, gid = (int(rows[name].split()[0]) for name in ("Uid", "Gid"))
    return [uid, gid, [int(word) for word in rows["Groups"].split()]]


def now() -> float:
    """Seconds since the epoch: what a shim stamps its container's life with. It has no injected clock."""
    return time.time_ns() / 1e9


def boot_id() -> str:
    """A name for the time since the machine was booted."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def join_cgroup(directory: str) -> None:
    """Move the calling process, which has one thread, into the cgroup at `directory`."""
    write(membership(directory), "0")


def membership(directory: str) -> str:
    """The file by which a process of one thread joins a cgroup.

    On v1 it is `tasks`: moving oneself as a single thread skips the kernel's lock on all forks, whose first taking
    waits for an RCU grace period (10 to 20 ms on an idle machine). v2 has no such file.
    """
    tasks = os.path.join(directory, "tasks")
    return tasks if os.path.exists(tasks) else os.path.join(directory, "cgroup.procs")


def join_namespace(path: str, kind: int) -> None:
    """Enter the namespace at `path`."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(handle, kind)
    finally:
        os.close(handle)


def set_oom_score(process: str, score: int) -> None:
    """Set oom_score_adj; where lowering it is not permitted (no CAP_SYS_RESOURCE), leave it as it is."""
    try:
        write(f"/proc/{process}/oom_score_adj", str(score))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
