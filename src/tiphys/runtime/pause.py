"""The pause process: holds a sandbox's namespaces and, where the pid namespace is shared, reaps its orphans.

Runs in a process forked by the helper. Request: `namespaces` to make or join, `hostname`, `sysctls`, `cgroup` to
make and join, `shm` (a directory to mount the shared /dev/shm on). Answer: `pid` and `start_time`, or `error`.
"""

from __future__ import annotations

import os
import signal
import socket

from tiphys.runtime import cgroups, processes, protocol, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


def run(connection: socket.socket, request: dict[str, Any]) -> None:
    """Set up the sandbox, answer, and wait for the end."""
    try:
        os.setsid()
        _enter(request)
        pid = os.fork() if request["share_pid"] else 0
    except OSError as error:
        protocol.send(connection, {"error": processes.describe(error)})
        return
    if pid == 0:
        _hold(connection, announce=not request["share_pid"])
        return
    protocol.send(connection, {"pid": pid, "start_time": processes.start_time(pid)})


def _enter(request: dict[str, Any]) -> None:
    cgroups.prepare(request["cgroup"])
    for directory in request["cgroup"]["directories"]:
        processes.join_cgroup(directory)
    processes.set_oom_score("self", -998)
    flags = syscalls.CLONE_NEWUTS
    network = request["network"]
    if network:
        processes.join_namespace(network, syscalls.CLONE_NEWNET)
    else:
        flags |= syscalls.CLONE_NEWNET
    if not request["host_ipc"]:
        flags |= syscalls.CLONE_NEWIPC
    if request["share_pid"]:
        flags |= syscalls.CLONE_NEWPID
    if request["shm"]:
        options = f"mode=1777,size={64 * 1024 * 1024}"
        restrict = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("shm", request["shm"], "tmpfs", restrict, options)
    syscalls.unshare(flags)
    if request["hostname"]:
        socket.sethostname(request["hostname"])
    for name, value in request["sysctls"].items():
        _write_sysctl(name, value)


def _write_sysctl(name: str, value: str) -> None:
    path = os.path.join("/proc/sys", *name.split("." if "/" not in name else "/"))
    try:
        processes.write(path, value)
    except OSError as error:
        raise OSError(error.errno, f"sysctl {name}={value}: {os.strerror(error.errno or 0)}") from error


def _hold(connection: socket.socket, *, announce: bool) -> None:
    syscalls.set_name("pause")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.getpid()
    if announce:
        protocol.send(connection, {"pid": pid, "start_time": processes.start_time(pid)})
    connection.close()
    while signal.sigwait(SIGNALS) == signal.SIGCHLD:
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return
