"""What runs in the containers of FakeRuntime: tiny programs on the virtual clock, and a shell of six words.

A program is an async function of a Process that returns its exit code. The shell knows `;`, newlines and
`echo`, `sleep`, `exit`, `true`, `false`, `cat`, and `trap 'exit N' SIGNAL`, so that the same scenario runs on a real
busybox too.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.base.clock import Clock

DEADLY = frozenset({signal.SIGKILL})


class Killed(Exception):
    """The process was ended by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(slots=True)
class Process:
    """A process in a fake container: what it was given, and where its output goes."""

    argv: Sequence[str]
    env: Mapping[str, str]
    clock: Clock
    write: Callable[[int, bytes], None]
    """`write(1, data)` is stdout, `write(2, data)` stderr."""
    stdin: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    """b"" is its end."""
    traps: dict[int, int] = field(default_factory=dict)
    """Exit code by signal; other signals than SIGKILL are ignored, as for any first process of a pid namespace."""
    ended_by: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    def signal(self, number: int) -> None:
        """Deliver a signal."""
        if number in DEADLY or number in self.traps:
            self.ended_by.put_nowait(number)


Program = Callable[[Process], Awaitable[int]]


async def sleep(process: Process) -> int:
    """sleep SECONDS"""
    await process.clock.sleep(float(process.argv[1].removesuffix("s")) if process.argv[1:] else 0)
    return 0


async def echo(process: Process) -> int:
    """echo WORD..."""
    process.write(1, " ".join(process.argv[1:]).encode() + b"\n")
    return 0


async def true(process: Process) -> int:
    """Succeeds."""
    return 0


async def false(process: Process) -> int:
    """Fails."""
    return 1


async def cat(process: Process) -> int:
    """Stdin to stdout."""
    while data := await process.stdin.get():
        process.write(1, data)
    return 0


async def forever(process: Process) -> int:
    """A server: runs until it is killed."""
    await asyncio.Event().wait()
    return 0


async def shell(process: Process) -> int:
    """sh -c SCRIPT"""
    code = 0
    script = process.argv[2] if len(process.argv) > 2 else ""
    for line in script.replace("\n", ";").split(";"):
        words = shlex.split(line.partition("#")[0])
        error = bool(words) and words[-1] == ">&2"
        words = words[: -1 if error else None]
        if not words:
            continue
        if words[0] == "exit":
            return int(words[1]) if words[1:] else code
        if words[0] == "trap":
            process.traps[signal_number(words[2])] = int(words[1].split()[1])
            continue
        code = await _command(process, words, 2 if error else 1)
    return code


async def _command(process: Process, words: list[str], stream: int) -> int:
    program = PROGRAMS.get(words[0])
    if program is None:
        process.write(2, f"sh: {words[0]}: not found\n".encode())
        return 127

    def write(number: int, data: bytes) -> None:
        process.write(stream if number == 1 else number, data)

    inner = Process(words, process.env, process.clock, write, process.stdin, process.traps, process.ended_by)
    return await program(inner)


def signal_number(name: str) -> int:
    """15 for TERM and SIGTERM."""
    return int(signal.Signals[f"SIG{name.removeprefix('SIG')}"])


PROGRAMS: Mapping[str, Program] = {
    "sleep": sleep,
    "echo": echo,
    "true": true,
    "false": false,
    "cat": cat,
    "sh": shell,
    "/bin/sh": shell,
}
