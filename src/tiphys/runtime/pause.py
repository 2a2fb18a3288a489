"""The pause process: holds a sandbox's namespaces and, where the pid namespace is shared, reaps its orphans.

Forked by the helper. Request: `network` (a namespace to join, or "" for a new one), `host_ipc`, `share_pid`,
`hostname`, `sysctls`, `cgroup` to make and join, `shm` (a directory to mount the shared /dev/shm on),
`user_namespace` (null, or the first of the host's IDs in a new one and how many). Answer: `pid`
and `start_time`, or `error`.

What a fork of the helper touches becomes its own memory. So the pause process, once everything is made, becomes another
program, of a few kilobytes (pause_program.py); where that cannot be it waits as it is.
"""

from __future__ import annotations

import errno
import os
import signal
import socket

from tiphys.runtime import capabilities, cgroups, pause_program, processes, protocol, syscalls, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OOM_SCORE = -998
NOBODY = 65535
"""Who the pause process of a shared pid namespace is, as in upstream's pause image."""
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


def run(connection: socket.socket, program: int, directory: str) -> None:
    """Set up the sandbox, answer, and wait for the end as the `program` of pause_program.make."""
    request = protocol.receive(connection)
    pid = os.getpid()
    shared = request["share_pid"]
    try:
        os.setsid()
        processes.set_oom_score("self", OOM_SCORE)
        _enter(request)
        if shared:
            pid = _first_process(program, directory)
    except OSError as error:
        protocol.send(connection, {"error": processes.describe(error)})
        return
    try:
        protocol.send(connection, {"pid": pid, "start_time": processes.start_time(pid)})
    except OSError:  # whoever asked has gone: nobody would ever know of it
        if shared:
            os.kill(pid, signal.SIGKILL)
        return
    if not shared:
        connection.close()
        _hold(program, directory)


def _first_process(program: int, directory: str) -> int:
    """Only a child can be the first process of a new pid namespace: it is the pause process then."""
    pid = os.fork()
    if pid:
        return pid
    program = _forsake(program)
    _hold(program, directory)
    os._exit(0)


def _forsake(program: int) -> int:
    """Give up all that a container with CAP_SYS_PTRACE could take from its neighbour: files, root, capabilities.
    Returns where `program` is open now."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if program > pause_program.DESCRIPTOR:
        program = os.dup2(program, pause_program.DESCRIPTOR, inheritable=False)
    os.closerange(pause_program.DESCRIPTOR + (program >= 0), 1024)
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
    _become_nobody()
    return program


def _become_nobody() -> None:
    userns.set_groups([])
    try:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        if error.errno != errno.EINVAL or userns.is_initial():  # a namespace of one user's IDs has nobody else
            raise


def _enter(request: dict[str, Any]) -> None:
    """Make the cgroup and the namespaces, and join them."""
    cgroups.prepare(request["cgroup"])
    for directory in request["cgroup"]["directories"]:
        processes.join_cgroup(directory)
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


def _write_sysctl(name: str, value: str) -> None:
    path = os.path.join("/proc/sys", *name.split("." if "/" not in name else "/"))
    try:
        processes.write(path, value)
    except OSError as error:
        raise OSError(error.errno, f"sysctl {name}={value}: {os.strerror(error.errno or 0)}") from error


def _hold(program: int, directory: str) -> None:
    pause_program.become(program, directory)
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
