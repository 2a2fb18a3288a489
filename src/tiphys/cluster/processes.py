"""Start, find and stop the processes of a cluster.

A component's process holds an exclusive lock on RUN/COMPONENT.lock for as long as it lives: whether it runs, and
with which pid, is asked of the kernel, never read from a file. It tells its starter that it is ready through a
pipe, and anybody else by a second lock that it gives up then; nobody polls.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent

CONTROL_PLANE = "control-plane"
GATEWAY = "gateway"
"""It runs when there is something for it to do: the control plane starts it."""
READY_FD = "TIPHYS_READY_FD"
GO_FD = "TIPHYS_GO_FD"
LOG_TAIL = 4000
LOG_LIMIT = 10_000_000
"""Bytes of a log that are too many to append to: it becomes LOG.1."""
ALIVE, STARTING = 0, 1
"""Which byte of its lock file a process holds: while it lives, while it is not ready."""
REASON = "tiphys: "
"""How the line begins in which a command says why it failed."""
ROOTS = ("TIPHYS_HOME", "TIPHYS_RUN")
FLOCK = "hhqqi4x"
"""struct flock on 64-bit Linux: type, whence, start, length, pid."""


class AlreadyRunning(Permanent):
    """Another process holds the component's lock."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process being started: `ready` is the read end of its pipe, `go` the write end of the one it waits on."""

    component: str
    process: subprocess.Popen[bytes]
    ready: int
    go: int
    log: Path
    log_start: int
    """Where in the log its own lines begin."""


def start(component: str, arguments: list[str], lock: Path, log: Path) -> Child:
    """Run `tiphys ARGUMENTS` in a session of its own, its output appended to `log`."""
    read_end, write_end = os.pipe()
    go_read, go_write = os.pipe()
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name(log.name + ".1"))
    with open(log, "ab", opener=_private) as output:
        log_start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tiphys", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment() | {READY_FD: str(write_end), GO_FD: str(go_read)},
            cwd="/",
            umask=0o022,
            pass_fds=(write_end, go_read),
            start_new_session=True,
        )
    os.close(write_end)
    os.close(go_read)
    return Child(component, process, read_end, go_write, log, log_start)


def wait_ready(children: list[Child], first: str, seconds: float, progress: Callable[[str], None]) -> None:
    """Return when every child has said that it is ready; raises Permanent with the log's end if one did not.

    All start at once, but those that `await_go` go on when the child called `first` is ready (at once, when it is
    not among them)."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    waiting = {child.ready: child for child in children}
    try:
        if all(child.component != first for child in children):
            _let_go(children)
        while waiting:
            readable, _, _ = select.select(list(waiting), [], [], max(0, end - clock.monotonic()))
            if not readable:
                names = ", ".join(child.component for child in waiting.values())
                logs = "\n".join(map(_tail, waiting.values()))
                raise Permanent(f"not ready after {seconds:.0f} s: {names}\n{logs}")
            for descriptor in readable:
                child = waiting.pop(descriptor)
                if os.read(descriptor, 64) == b"":
                    child.process.wait()
                    raise Permanent(_why_it_ended(child))
                progress(child.component)
                if child.component == first:
                    _let_go(children)
    finally:
        for child in children:
            os.close(child.ready)
            os.close(child.go)


def abandon(children: list[Child], grace: float) -> None:
    """End children that are not wanted any more."""
    for child in children:
        child.process.terminate()
    for child in children:
        try:
            child.process.wait(grace)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def announce_ready(lock: Path) -> None:
    """Called by the child, once, when it serves; it holds `lock`."""
    # Opened once more and never closed: closing any descriptor of the file would drop the process's other lock.
    fcntl.lockf(os.open(lock, os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_UN, 1, STARTING)
    descriptor = os.environ.pop(READY_FD, "")
    if descriptor:
        with contextlib.suppress(BrokenPipeError):  # its starter has gone
            os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))


def wait_started(lock: Path, seconds: float) -> bool:
    """Return when the holder of `lock`, whoever started it, has announced that it is ready; False if it ended.

    Raises Permanent after `seconds`."""

    def give_up(*_: object) -> None:
        raise Permanent(f"{lock.stem} (pid {pid_of(lock)}) runs, but is not ready after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with lock.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, STARTING)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return pid_of(lock) != 0


async def await_go() -> None:
    """Called by a child that needs another one first; returns at once when nobody started it so.

    Its starter going away counts as "go": whoever is left must not wait for ever."""
    descriptor = os.environ.pop(GO_FD, "")
    if not descriptor:
        return
    import asyncio

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(int(descriptor), told.set)
    try:
        await told.wait()
    finally:
        loop.remove_reader(int(descriptor))
        os.close(int(descriptor))


def hold(lock: Path) -> int:
    """Take the component's lock for this process's life; raises AlreadyRunning.

    A POSIX lock: children do not inherit it, and the kernel tells who holds it (fcntl(2)). The process must not
    open the file a second time: closing any descriptor of it would drop the lock.
    """
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, STARTING + 1, ALIVE)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise AlreadyRunning(f"another process (pid {pid_of(lock)}) holds {lock}") from None
    return descriptor


def pid_of(lock: Path) -> int:
    """The pid of the process that holds `lock`; 0 if nobody does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, ALIVE, 1, 0))
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = struct.unpack(FLOCK, answer)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def stop(lock: Path, grace: float) -> bool:
    """Ask the holder of `lock` to end (SIGTERM), kill it after `grace` seconds. False if nobody held it."""
    pid = pid_of(lock)
    if not pid:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], seconds)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)
    raise Permanent(f"process {pid} ({lock.stem}) does not end, not even by SIGKILL")


def _let_go(children: list[Child]) -> None:
    for child in children:
        with contextlib.suppress(BrokenPipeError):
            os.write(child.go, b"go\n")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _environment() -> dict[str, str]:
    """This process's, good in any directory."""
    paths = [str(Path(part).absolute()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    roots = {name: str(Path(os.environ[name]).absolute()) for name in ROOTS if os.environ.get(name)}
    return {**os.environ, **roots, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _why_it_ended(child: Child) -> str:
    """One line if the child gave its reason, else the end of its log."""
    ended = f"{child.component} stopped with exit code {child.process.returncode}"
    last = _logged(child).rstrip().rpartition("\n")[2]
    if last.startswith(REASON):
        return f"{ended}: {last.removeprefix(REASON)} (log: {child.log})"
    return f"{ended}:\n{_tail(child)}"


def _tail(child: Child) -> str:
    lines = _logged(child).strip().splitlines()[-20:]
    return f"--- {child.log}\n" + "\n".join(lines)


def _logged(child: Child) -> str:
    """The end of what the child itself logged."""
    try:
        return child.log.read_bytes()[child.log_start :][-LOG_TAIL:].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
