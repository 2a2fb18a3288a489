"""Exec: run one more program inside a running container, and watch it to its end.

Forked by the helper for each exec. The streams (or the terminal's master side) go straight to the asking process
over SCM_RIGHTS, so that no byte is relayed; the monitor only tells the exit code. When the asker lets go of the
connection, the program is killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from tiphys.runtime import init, oci_shim, processes, protocol, shim, syscalls, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)


def run(connection: socket.socket, request: dict[str, Any]) -> None:
    """Answer {"started": true} with descriptors [stdin,] stdout, stderr or [terminal]; later {"exit_code"}."""
    os.setsid()
    syscalls.set_name("tiphys-exec")
    bundle = shim.load_bundle(request["directory"])
    apart = oci_shim.is_apart(bundle)
    if apart and request["tty"]:
        protocol.send(connection, {"error": "terminals are not supported with this runtime handler", "code": 128})
        return
    try:
        cgroups = [] if apart else _enter(bundle, request)
    except OSError as error:
        protocol.send(connection, {"error": processes.describe(error), "code": 128})
        return
    mine, theirs = _pipes(request)
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        init.become(there, lambda: _run(there, bundle, request, theirs, cgroups))
    there.close()
    for descriptor in {*theirs} - {-1}:
        os.close(descriptor)
    result, terminal = init.outcome(here)
    if result:
        os.waitpid(pid, 0)
        protocol.send(connection, result)
        return
    descriptors = terminal or mine
    protocol.send(connection, {"started": True}, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    _watch(connection, pid)


def _run(
    report: socket.socket, bundle: dict[str, Any], request: dict[str, Any], streams: list[int], cgroups: list[int]
) -> None:
    if oci_shim.is_apart(bundle):
        init.use_streams(streams)
        oci_shim.execute(request["directory"], bundle, request["argv"])
    for handle in cgroups:
        os.write(handle, b"0")
    init.joined(report, bundle, request["argv"], request["tty"], streams)


def _enter(bundle: dict[str, Any], request: dict[str, Any]) -> list[int]:
    """Into the container's namespaces; that of pids takes effect with the next fork. Returns the container's
    membership files, opened while they could be seen, for the program alone to join."""
    container = os.pidfd_open(request["pid"])
    if processes.start_time(request["pid"]) != request["start_time"]:
        raise OSError(3, "container is not running")
    files = [processes.membership(directory) for directory in bundle["cgroup"]["directories"]]
    handles = [os.open(file, os.O_WRONLY | os.O_CLOEXEC) for file in files]
    # Inherited by the program; afterwards /proc would be the container's.
    processes.set_oom_score("self", bundle["oom_score_adj"])
    mapped = bool(bundle.get("user_namespace"))
    syscalls.setns(container, SPACES | (syscalls.CLONE_NEWUSER if mapped else 0))
    os.close(container)
    if mapped:
        userns.become_root()
    return handles


def _pipes(request: dict[str, Any]) -> tuple[list[int], list[int]]:
    """(the asker's ends, the program's three ends)."""
    if request["tty"]:
        return [], [-1, -1, -1]
    read_out, write_out = os.pipe()
    read_err, write_err = os.pipe()
    if not request["stdin"]:
        return [read_out, read_err], [-1, write_out, write_err]
    read_in, write_in = os.pipe()
    return [write_in, read_out, read_err], [read_in, write_out, write_err]


def _watch(connection: socket.socket, pid: int) -> None:
    handle = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.register(connection, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll()}
        if handle in ready:
            break
        if not connection.recv(4096):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poller.unregister(connection)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    protocol.send(connection, {"exit_code": 128 - code if code < 0 else code})
