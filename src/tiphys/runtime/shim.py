"""The shim: one small process a container that outlives whoever asked for it.

Forked from the helper, it starts the container's first process, keeps its log, streams and terminal, relays to
whoever is attached, and writes the exit code durably before it tells anyone. It blocks in epoll: an idle container
costs no CPU. Files in the container's directory: `bundle.json` (read), `state.json` (written), `shim.sock`.

Requests on a connection: {"op": "attach"}, {"op": "signal", "signal"}, {"op": "resize", "width", "height"},
{"op": "reopen-log"}; every connection is told the state at its start and the exit.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import sys

from tiphys.runtime import cgroups, init, oci_shim, processes, protocol, syscalls, userns
from tiphys.runtime.console import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SOCKET = "shim.sock"
STATE = "state.json"
REFUSED = 1.0
"""Seconds between two tries to write an end down on a disk that refuses."""


def load_bundle(directory: str) -> dict[str, Any]:
    """The container's bundle with its seccomp program read in."""
    with open(os.path.join(directory, "bundle.json"), "rb") as file:
        bundle: dict[str, Any] = json.loads(file.read())
    bundle["seccomp_program"] = b""
    if bundle["seccomp"]:
        with open(bundle["seccomp"], "rb") as file:
            bundle["seccomp_program"] = file.read()
    return bundle


def write_state(directory: str, state: dict[str, Any]) -> None:
    """Replace the state file. An end is on disk when this returns; a start need not survive the machine's crash."""
    path = os.path.join(directory, STATE)
    data, durable = json.dumps(state).encode(), state["state"] == "exited"
    try:
        _write(path + ".new", data, os.O_TRUNC, durable=durable)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not os.path.exists(path):
            raise
        # A full disk has no room for a second file; but the first one has its block, and the news fit in.
        os.unlink(path + ".new")
        _write(path, data, 0, durable=durable)
        return
    os.replace(path + ".new", path)


def _write(path: str, data: bytes, flags: int, *, durable: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.ftruncate(handle, len(data))
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def run(connection: socket.socket, request: dict[str, Any]) -> None:
    """Start the container in `directory`, answer on `connection`, and stay until it has ended."""
    directory = request["directory"]
    os.setsid()
    syscalls.set_name("tiphys-shim")
    bundle = load_bundle(directory)
    if not _only_one(directory):
        protocol.send(connection, {"state": "exited", "error": "it is being started already", "exit_code": 128})
        return
    if protocol.abandoned(connection):
        return  # who asked was killed; whoever comes next sees that nothing is under way, and decides afresh
    listener = protocol.listen(directory, SOCKET)
    try:
        pid, streams = _launch_oci(directory, bundle) if bundle.get("oci") else _launch(bundle)
    except LaunchFailure as failure:
        now = processes.now()
        state = {"state": "exited", "error": str(failure), "exit_code": failure.code, "finished_at": now}
        write_state(directory, state)
        protocol.send(connection, state)
        return
    state = {
        "state": "running",
        "pid": pid,
        "start_time": processes.start_time(pid),
        "identity": _identity(pid, bundle),
        "shim": os.getpid(),
        "boot": processes.boot_id(),
        "started_at": processes.now(),
    }
    write_state(directory, state)
    Shim(directory, bundle, state, streams, listener, connection).serve()


def _identity(pid: int, bundle: dict[str, Any]) -> list[Any] | None:
    if oci_shim.is_apart(bundle):
        return None
    who, users = processes.identity(pid), bundle.get("user_namespace")
    return userns.identity(who, users[0]) if users else who


def _only_one(directory: str) -> bool:
    """Take the lock that lasts as long as this shim (a POSIX lock: the container does not inherit it)."""
    handle = os.open(os.path.join(directory, "shim.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if not _has_ended(directory):
            return False
        fcntl.lockf(handle, fcntl.LOCK_EX)  # the shim of the run before, on its way out
    return True


def _has_ended(directory: str) -> bool:
    try:
        with open(os.path.join(directory, STATE), "rb") as file:
            return bool(json.loads(file.read())["state"] == "exited")
    except FileNotFoundError:
        return False


class LaunchFailure(Exception):
    """The container did not come to run; `code` as in confine.CannotExec."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def _launch(bundle: dict[str, Any]) -> tuple[int, Streams]:
    """Fork the container's first process; returns when its program was executed."""
    here, there = socket.socketpair()
    try:
        streams, child_side = Streams.prepare(bundle)
        cgroups.prepare(bundle["cgroup"])
        start = _start_mapped if bundle.get("user_namespace") else _start
        pid = start(here, there, bundle, child_side)
    except OSError as error:
        raise LaunchFailure(processes.describe(error), 128) from error
    there.close()
    for descriptor in child_side:
        if descriptor >= 0:
            os.close(descriptor)
    result, descriptors = init.outcome(here)
    here.close()
    if result:
        if pid:
            os.waitpid(pid, 0)
        raise LaunchFailure(result["error"], result["code"])
    if not pid:
        cgroups.kill(bundle["cgroup"]["directories"])
        raise LaunchFailure("the process that was to enter the user namespace was killed", 128)
    if descriptors:
        streams.terminal = descriptors[0]
    return pid, streams


def _launch_oci(directory: str, bundle: dict[str, Any]) -> tuple[int, Streams]:
    """Have an OCI runtime start it."""
    streams, child_side = Streams.prepare(bundle)
    try:
        cgroups.prepare(bundle["cgroup"])
        pid, terminal = oci_shim.start(directory, bundle, child_side)
    except OSError as error:
        raise LaunchFailure(processes.describe(error), 128) from error
    except oci_shim.OciFailure as error:
        raise LaunchFailure(str(error), oci_shim.code(str(error))) from error
    for descriptor in child_side:
        if descriptor >= 0:
            os.close(descriptor)
    if terminal >= 0:
        streams.terminal = terminal
    return pid, streams


def _start(here: socket.socket, there: socket.socket, bundle: dict[str, Any], streams: list[int]) -> int:
    pid_space = bundle["namespaces"]["pid"]
    if pid_space == "new":
        syscalls.unshare(syscalls.CLONE_NEWPID)
    elif pid_space != "host":
        processes.join_namespace(pid_space, syscalls.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        here.close()
        init.become(there, lambda: init.container(there, bundle, streams, bundle["seccomp_program"]))
    return pid


def _start_mapped(here: socket.socket, there: socket.socket, bundle: dict[str, Any], streams: list[int]) -> int:
    """By way of a process that enters the user namespace: a grandchild, adopted when that one ends. 0: it failed."""
    read_end, write_end = os.pipe()
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    between = os.fork()
    if between == 0:
        here.close()
        os.close(read_end)
        program = bundle["seccomp_program"]
        init.become(there, lambda: init.mapped_container(there, bundle, streams, program, write_end))
    os.close(write_end)
    answer = os.read(read_end, 16)
    os.close(read_end)
    os.waitpid(between, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)
    return int(answer or 0)


class Shim:
    """The shim's main loop over one epoll: the process, its streams, the listener, the connections."""

    def __init__(
        self,
        directory: str,
        bundle: dict[str, Any],
        state: dict[str, Any],
        streams: Streams,
        listener: socket.socket,
        control: socket.socket,
    ) -> None:
        self.directory, self.bundle, self.state, self.streams = directory, bundle, state, streams
        self.listener = listener
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.exited = False
        self.waiter = oci_shim.wait(directory, bundle) if oci_shim.is_apart(bundle) else None
        self.pidfd = os.pidfd_open(self.waiter[0] if self.waiter else state["pid"])
        if self.waiter:
            kernel = os.pidfd_open(state["pid"])
            self.watch(kernel, select.EPOLLIN, lambda _: self._reap_kernel(kernel))
        self.kills_before = cgroups.oom_kills(bundle["cgroup"]["directories"])
        listener.setblocking(False)
        self.watch(self.pidfd, select.EPOLLIN, lambda _: self._reap())
        self.watch(listener.fileno(), select.EPOLLIN, lambda _: self._accept())
        streams.start(self)
        streams.connect(control)
        streams.tell(control.fileno(), state)

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever `descriptor` is ready; replaces an earlier watch."""
        if descriptor in self.handlers:
            self.epoll.modify(descriptor, events)
        else:
            self.epoll.register(descriptor, events)
        self.handlers[descriptor] = handler

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; harmless if it was not watched."""
        if self.handlers.pop(descriptor, None) is not None:
            self.epoll.unregister(descriptor)

    def serve(self) -> None:
        """Until the container has ended, its output is stored, and all that was attached has got it."""
        while not self.exited or self.streams.open_outputs():
            self._turn()
        self._finish()
        while self.streams.undelivered():
            self._turn()

    def _turn(self) -> None:
        for descriptor, events in self.epoll.poll():
            handler = self.handlers.get(descriptor)
            if handler is not None:
                handler(events)

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        self.streams.connect(connection)
        self.streams.tell(connection.fileno(), self.state)

    def command(self, request: dict[str, Any]) -> None:
        """A control request that is not about streams."""
        operation = request["op"]
        if operation == "signal" and not self.exited:
            if self.waiter:
                oci_shim.kill(self.directory, self.bundle, request["signal"])
            else:
                os.kill(self.state["pid"], request["signal"])
        elif operation == "reopen-log":
            self.streams.reopen_log()

    def _reap_kernel(self, handle: int) -> None:
        """As long as it is a zombie the runtime waits for it."""
        self.unwatch(handle)
        os.close(handle)
        os.waitpid(self.state["pid"], 0)

    def _reap(self) -> None:
        self.unwatch(self.pidfd)
        if self.waiter:
            code = oci_shim.result(self.waiter)
        else:
            _, status = os.waitpid(self.state["pid"], 0)
            code = os.waitstatus_to_exitcode(status)
        self.exited = True
        self.state["signal"] = -code if code < 0 else 0
        self.state["exit_code"] = 128 - code if code < 0 else code
        self.state["finished_at"] = processes.now()
        self.state["oom_killed"] = cgroups.oom_kills(self.bundle["cgroup"]["directories"]) > self.kills_before
        # In a pid namespace of its own the kernel has killed the rest already; in a shared one they would go on.
        cgroups.remove(self.bundle["cgroup"]["directories"])
        self.streams.ended()

    def _finish(self) -> None:
        self.streams.finish()
        if self.bundle.get("oci"):
            oci_shim.bury(self.directory, self.bundle)
        self.state["state"] = "exited"
        self.state["pid"] = 0
        self.state["log_error"] = self.streams.log_error()
        self._keep_state()
        self.unwatch(self.listener.fileno())
        self.listener.close()
        os.unlink(os.path.join(self.directory, SOCKET))
        self.streams.broadcast(protocol.message(self.state))

    def _keep_state(self) -> None:
        """Write the end down before anyone hears of it; while the disk refuses, try again."""
        while True:
            try:
                return write_state(self.directory, self.state)
            except FileNotFoundError:
                return None  # it was removed meanwhile
            except OSError as error:
                print(f"state of {self.directory}: {error}", file=sys.stderr, flush=True)
                select.select((), (), (), REFUSED)
