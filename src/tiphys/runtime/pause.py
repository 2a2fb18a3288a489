"""The pause process: holds a sandbox's namespaces and, where the pid namespace is shared, reaps its orphans.

Forked by the helper. Request: `network` (a namespace to join, or "" for a new one), `host_ipc`, `share_pid`,
`hostname`, `sysctls`, `cgroup` to make and join, `shm` (a directory to mount the shared /dev/shm on),
`user_namespace` (null, or the first of the host's IDs in a new one and how many). Answer: `pid`
and `start_time`, or `error`.

What a fork of the helper touches becomes its own memory. So the pause process touches next to nothing: a child reads
the request, makes everything and answers; the pause process joins the child's namespaces, the child ends.
"""

from __future__ import annotations

import os
import signal
import socket

from tiphys.runtime import capabilities, cgroups, processes, protocol, syscalls, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OOM_SCORE = -998
NOBODY = 65535
"""Who the pause process of a shared pid namespace is, as in upstream's pause image."""
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
JOINED = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS


def run(connection: socket.socket) -> None:
    """Have the sandbox set up, join it, and wait for the end."""
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        here.close()
        _make(connection, there)
        return
    there.close()
    connection.close()
    _, descriptors, _, _ = socket.recv_fds(here, 1, protocol.MAX_DESCRIPTORS)
    if descriptors:
        for descriptor in descriptors:
            os.write(descriptor, b"0")
            os.close(descriptor)
        handle = os.pidfd_open(child)
        syscalls.setns(handle, JOINED)
        os.close(handle)
    here.close()
    os.waitpid(child, 0)
    if descriptors:
        _hold()


def _make(connection: socket.socket, parent: socket.socket) -> None:
    """In the child: set up the sandbox, hand its namespaces to the parent, answer."""
    request = protocol.receive(connection)
    pid = os.getppid()
    try:
        os.setsid()
        processes.set_oom_score("self" if request["share_pid"] else str(pid), OOM_SCORE)
        files = _enter(request)
        if request["share_pid"]:
            pid = _first_process(files)
        else:
            socket.send_fds(parent, [b"1"], files)
            parent.recv(1)  # closed when it has joined
    except OSError as error:
        protocol.send(connection, {"error": processes.describe(error)})
        return
    protocol.send(connection, {"pid": pid, "start_time": processes.start_time(pid)})


def _first_process(files: list[int]) -> int:
    """Only a child can be the first process of a new pid namespace: it is the pause process then."""
    pid = os.fork()
    if pid:
        return pid
    for descriptor in files:
        os.write(descriptor, b"0")
    _forsake()
    _hold()
    os._exit(0)


def _forsake() -> None:
    """Give up all that a container with CAP_SYS_PTRACE could take from its neighbour: files, root, capabilities."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, 1024)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    restrict = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("pause", "/proc", "tmpfs", restrict, "size=4k")
    os.chdir("/proc")
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    capabilities.limit_bounding(0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _enter(request: dict[str, Any]) -> list[int]:
    """Make the cgroup and the namespaces; returns the files by which the pause process joins the cgroup."""
    cgroups.prepare(request["cgroup"])
    names = [processes.membership(directory) for directory in request["cgroup"]["directories"]]
    files = [os.open(name, os.O_WRONLY | os.O_CLOEXEC) for name in names]
    flags = syscalls.CLONE_NEWUTS
    users = request["user_namespace"]
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
        owner = f",uid={users[0]},gid={users[0]}" if users else ""
        options = f"mode=1777,size={64 * 1024 * 1024}{owner}"
        restrict = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("shm", request["shm"], "tmpfs", restrict, options)
    if users:
        userns.enter_new(*users)
    syscalls.unshare(flags)
    if request["hostname"]:
        socket.sethostname(request["hostname"])
    for name, value in request["sysctls"].items():
        _write_sysctl(name, value)
    return files


def _write_sysctl(name: str, value: str) -> None:
    path = os.path.join("/proc/sys", *name.split("." if "/" not in name else "/"))
    try:
        processes.write(path, value)
    except OSError as error:
        raise OSError(error.errno, f"sysctl {name}={value}: {os.strerror(error.errno or 0)}") from error


def _hold() -> None:
    syscalls.set_name("pause")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    while signal.sigwait(SIGNALS) == signal.SIGCHLD:
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return
