"""A container's first process, from fork to execve; and the same for an exec'd process.

Runs in a child of the shim (or of the exec monitor). Failures travel back over `report`, a socket that closes by
itself when execve succeeds; a terminal's master side goes back the same way.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import termios

from tiphys.runtime import confine, processes, protocol, rootfs, syscalls, userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


def become(report: socket.socket, steps: Callable[[], None]) -> NoReturn:
    """Run `steps`, which ends in execve; report why it did not. Never returns."""
    code, text = 128, ""
    try:
        steps()
    except confine.CannotExec as error:
        code, text = error.code, str(error)
    except OSError as error:
        text = processes.describe(error)
    except Exception as error:  # noqa: BLE001 - the forked process's boundary: everything is reported
        text = f"{type(error).__name__}: {error}"
    protocol.send(report, {"error": text, "code": code})
    os._exit(code)


def container(report: socket.socket, bundle: dict[str, Any], streams: list[int], program: bytes) -> None:
    """Set up a container around the calling process and run its program."""
    _join(bundle)
    syscalls.unshare(syscalls.CLONE_NEWNS | (0 if bundle["host_cgroups"] else syscalls.CLONE_NEWCGROUP))
    _run(report, bundle, rootfs.gather(bundle), streams, program)


def mapped_container(
    report: socket.socket, bundle: dict[str, Any], streams: list[int], program: bytes, answer: int
) -> None:
    """The same in the sandbox's user namespace, around a child, whose pid is written to `answer`: what the host's root
    must do is done by the calling process, which then ends. The shim adopts the child."""
    spaces = bundle["namespaces"]
    users = userns.owner(spaces["uts"])
    if spaces["pid"] != "new":
        processes.join_namespace(spaces["pid"], syscalls.CLONE_NEWPID)
    _join(bundle)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    trees = rootfs.gather(bundle, users)
    first = bundle["user_namespace"][0]
    for stream in {*streams} - {-1}:
        os.fchown(stream, first, first)
    syscalls.setns(users, syscalls.CLONE_NEWUSER)
    userns.become_root()
    if spaces["pid"] == "new":
        syscalls.unshare(syscalls.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        os.write(answer, str(pid).encode())
        os._exit(0)
    os.close(answer)
    os.setsid()
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
    _run(report, bundle, trees, streams, program)


def _join(bundle: dict[str, Any]) -> None:
    """A session of its own, the container's cgroup, and its sandbox's namespaces."""
    os.setsid()
    for directory in bundle["cgroup"]["directories"]:
        processes.join_cgroup(directory)
    processes.set_oom_score("self", bundle["oom_score_adj"])
    spaces = bundle["namespaces"]
    for kind, flag in (("net", syscalls.CLONE_NEWNET), ("ipc", syscalls.CLONE_NEWIPC), ("uts", syscalls.CLONE_NEWUTS)):
        processes.join_namespace(spaces[kind], flag)


def _run(
    report: socket.socket, bundle: dict[str, Any], trees: dict[str, Any], streams: list[int], program: bytes
) -> None:
    rootfs.build(bundle, trees)
    if bundle["tty"]:
        open_terminal(report, console=True)
    else:
        use_streams(streams)
    confine.execute(bundle, bundle["argv"], dict(bundle["env"]), program)


def joined(report: socket.socket, bundle: dict[str, Any], argv: list[str], tty: bool, streams: list[int]) -> None:
    """Run `argv` in a container whose namespaces the calling process is already in."""
    os.setsid()
    if tty:
        open_terminal(report, console=False)
    else:
        use_streams(streams)
    environment = dict(bundle["env"])
    if tty:
        environment.setdefault("TERM", "xterm")
    confine.execute(bundle, argv, environment, bundle["seccomp_program"])


def use_streams(streams: list[int]) -> None:
    """Make `streams` descriptors 0, 1 and 2; -1 stands for /dev/null."""
    sources = [_nothing() if stream < 0 else os.dup(stream) for stream in streams]
    # Copies above 2 first: a source may itself be 0, 1 or 2.
    high = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 10) for source in sources]
    for number, source in enumerate(high):
        os.dup2(source, number)


def _nothing() -> int:
    """The container's own /dev/null; if it has made something else of it, a pipe that is at its end."""
    try:
        handle = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if rootfs.is_null(handle):
            os.set_blocking(handle, True)
            return handle
        os.close(handle)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EPERM):
            raise
    read_end, write_end = os.pipe()
    os.close(write_end)
    return read_end


def open_terminal(report: socket.socket, *, console: bool) -> None:
    """Open a terminal in the container's own devpts, make it the controlling one, send its master side back."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK: unlock
    number = struct.unpack("i", fcntl.ioctl(master, 0x80045430, b"\0" * 4))[0]  # TIOCGPTN
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if console:
        _bind_console(f"/dev/pts/{number}")
    protocol.send(report, {"terminal": True}, [master])
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for target in (0, 1, 2):
        os.dup2(slave, target)
    os.close(master)


def _bind_console(terminal: str) -> None:
    try:
        os.close(os.open("/dev/console", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    syscalls.mount(terminal, "/dev/console", None, syscalls.MS_BIND)


def outcome(report: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What the child said: {} when its program runs, {"error", "code"} when not; descriptors of a terminal."""
    decoder = protocol.Decoder()
    found: list[int] = []
    while True:
        data, descriptors = protocol.receive_chunk(report)
        found += descriptors
        if not data:
            return {}, found
        for _, payload in decoder.feed(data):
            content = json.loads(payload)
            if "error" in content:
                return content, found
