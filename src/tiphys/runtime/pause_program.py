"""The program that a pause process becomes: seventy bytes of machine code in a file in memory.

A process that only holds namespaces has no use for an interpreter: as a fork of the helper it would keep a megabyte of
pages that it has touched. This program names itself, waits for SIGTERM or SIGINT, which its maker has blocked, and
ends. Its maker ignores SIGCHLD, which execve keeps: so the kernel itself reaps what is left to the first process of a
pid namespace. Sources: elf(5), rt_sigtimedwait(2), wait(2), memfd_create(2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct

ARGV = ["/pause"]
"""As upstream's pause image has it; containers that share the pid namespace see it."""
MARK = "TIPHYS_RUNTIME"
"""In its environment: the directory of the runtime that it belongs to."""
DESCRIPTOR = 3
"""Where it is open when it is run; all but it and the standard streams is closed."""
WAITED = (signal.SIGINT, signal.SIGTERM)

_X86_64 = bytes.fromhex(
    "bf0f000000"  # mov edi, PR_SET_NAME
    "488d3534000000"  # lea rsi, [name]
    "b89d000000 0f05"  # prctl
    # again:
    "488d3d1e000000"  # lea rdi, [signals]
    "31f6 31d2 41ba08000000"  # no siginfo, no timeout, a set of eight bytes
    "b880000000 0f05"  # rt_sigtimedwait
    "85c0 78e4"  # interrupted: again
    "31ff b83c000000 0f05"  # exit 0
    "0240000000000000"  # signals: SIGINT, SIGTERM
    "706175736500"  # name: pause
)
_MACHINES = {"x86_64": (62, _X86_64)}
_BASE = 0x400000
_HEADERS = 64 + 2 * 56


def elf(machine: str) -> bytes:
    """The program for a machine as os.uname() names it; b"" where there is none."""
    if machine not in _MACHINES:
        return b""
    number, code = _MACHINES[machine]
    size = _HEADERS + len(code)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return identity + header + load + stack + code


def make() -> int:
    """The program, open, in memory that nobody can change; -1 where there is none."""
    image = elf(os.uname().machine)
    if not image:
        return -1
    handle = os.memfd_create("pause", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(handle, image)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
    return handle


def become(program: int, directory: str) -> None:
    """Run `program` in place of the caller; returns if the system does not let it (sysctl vm.memfd_noexec)."""
    if program < 0:
        return
    if program != DESCRIPTOR:
        os.dup2(program, DESCRIPTOR, inheritable=False)
    os.closerange(DESCRIPTOR + 1, 1024)
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        os.execve(DESCRIPTOR, ARGV, {MARK: directory})  # noqa: S606 - no shell is wanted
    except OSError:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
