"""LinuxRuntime: exec, attach, terminals, stdin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import RuntimeFailure, Session

pytestmark = pytest.mark.e2e


async def read_all(session: Session) -> dict[int, bytes]:
    out = {1: b"", 2: b""}
    async for number, data in session.output():
        out[number] += data
    return out


async def read_until(session: Session, wanted: bytes) -> bytes:
    out = b""
    async for _, data in session.output():
        out += data
        if wanted in out:
            break
    return out


def test_exec_has_streams_and_an_exit_code(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000", env=(("A", "b"),), user="app")
        session = await runtime.exec("main", ["sh", "-c", "echo $A; id -un >&2; cat; exit 5"], stdin=True)
        await session.write(b"input\n")
        await session.close_stdin()
        assert await read_all(session) == {1: b"b\ninput\n", 2: b"app\n"}
        assert await session.wait() == 5
        await session.close()

    machine.run(scenario)


def test_exec_moves_megabytes_both_ways(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")
        session = await runtime.exec("main", ["cat"], stdin=True)
        data = bytes(range(256)) * 40_000

        async def feed() -> None:
            await session.write(data)
            await session.close_stdin()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            reading = group.create_task(read_all(session))
        assert reading.result()[1] == data
        await session.close()

    machine.run(scenario)


def test_exec_with_a_terminal(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")
        session = await runtime.exec("main", ["sh"], tty=True, stdin=True)
        await session.resize(132, 43)
        await session.write(b"stty size; tty; exit 4\n")
        text = (await read_all(session))[1]
        assert b"43 132\r\n" in text
        assert b"/dev/pts/0\r\n" in text
        assert await session.wait() == 4
        await session.close()

    machine.run(scenario)


def test_what_cannot_be_executed_says_why(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")
        with pytest.raises(RuntimeFailure) as caught:
            await runtime.exec("main", ["x"])
        assert str(caught.value) == (
            "OCI runtime exec failed: exec failed: unable to start container process: "
            'exec: "x": executable file not found in $PATH: unknown'
        )
        result = await runtime.exec_sync("main", ["/etc/passwd"], 5)
        assert result.exit_code == 126
        await runtime.stop_container("main", 0)
        with pytest.raises(RuntimeFailure, match="not running"):
            await runtime.exec("main", ["true"])

    machine.run(scenario)


def test_exec_sync_ends_at_its_timeout_and_kills(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")
        result = await runtime.exec_sync("main", ["sh", "-c", "echo early; exec sleep 77"], 0.3)
        assert (result.timed_out, result.stdout) == (True, b"early\n")
        while b"sleep 77" in (await runtime.exec_sync("main", ["ps"], 5)).stdout:
            pass

    machine.run(scenario)


def test_exec_does_not_wait_for_what_it_leaves_behind(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")
        result = await runtime.exec_sync("main", ["sh", "-c", "sleep 500 & echo done"], 20)
        assert (result.exit_code, result.stdout, result.timed_out) == (0, b"done\n", False)

    machine.run(scenario)


def test_attach_joins_the_streams(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        command = "while read line; do echo got $line; echo err $line >&2; done; echo end; exit 3"
        await machine.start(runtime, "sh", "-c", command, stdin=True, stdin_once=True)
        first, second = await runtime.attach("main"), await runtime.attach("main")
        await first.write(b"one\n")
        assert b"got one" in await read_until(first, b"got one")
        assert b"got one" in await read_until(second, b"got one")
        await second.close()

    machine.run(scenario)


def test_the_end_of_stdin_reaches_a_container_made_for_it(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sh", "-c", "cat; echo end; exit 3", stdin=True, stdin_once=True)
        session = await runtime.attach("main")
        await session.write(b"a" * 300_000)
        await session.close_stdin()
        assert (await read_all(session))[1] == b"a" * 300_000 + b"end\n"
        assert await session.wait() == 0
        assert (await runtime.stop_container("main", 5)).exit_code == 3

    machine.run(scenario)


def test_a_container_with_a_terminal(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sh", tty=True, stdin=True)
        session = await runtime.attach("main")
        await session.resize(100, 30)
        await session.write(b"stty size; tty; ls -l /dev/console; exit 6\n")
        text = (await read_all(session))[1]
        assert b"30 100\r\n" in text
        assert b"/dev/pts/0" in text or b"/dev/console" in text
        assert (await runtime.stop_container("main", 5)).exit_code == 6
        assert "30 100" in machine.log()

    machine.run(scenario)


def test_a_slow_reader_slows_the_container_and_loses_nothing(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sh", "-c", "read go; seq 1 300000", stdin=True, log_max_bytes=1 << 30)
        session = await runtime.attach("main")
        await session.write(b"\n")
        text = (await read_all(session))[1]
        assert text == b"".join(b"%d\n" % number for number in range(1, 300_001))
        assert machine.log().count("\n") == 299_999

    machine.run(scenario)
