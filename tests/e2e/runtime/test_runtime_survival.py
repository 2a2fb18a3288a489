"""LinuxRuntime: what goes on when processes die, and what is left when things are removed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import Mount, State

pytestmark = pytest.mark.e2e


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)  # noqa: TID251 - waits for a real process


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def shim_of(runtime: LinuxRuntime, id: str) -> int:
    return int(runtime._record(id).state["shim"])


def helper_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_containers_go_on_and_are_found_again(machine: Any) -> None:
    async def first(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sh", "-c", "echo before; read line; echo $line; exit 9", stdin=True)

    async def second(runtime: LinuxRuntime) -> None:
        status = await runtime.container("main")
        assert status.state is State.RUNNING
        assert (await runtime.exec_sync("main", ["echo", "inside"], 5)).stdout == b"inside\n"
        session = await runtime.attach("main")
        await session.write(b"after\n")
        async for _ in session.output():
            pass
        status = await runtime.stop_container("main", 5)
        assert (status.exit_code, machine.log()) == (9, "before\nafter")

    machine.run(first)
    machine.run(second)


def test_an_exit_while_nobody_watched_is_told_with_its_code(machine: Any) -> None:
    async def first(runtime: LinuxRuntime) -> None:
        command = "while [ ! -e /vol/go ]; do sleep 0.02; done; exit 12"
        await machine.start(runtime, "sh", "-c", command, mounts=(Mount("/vol", str(volume)),))
        shims.append(shim_of(runtime, "main"))

    async def second(runtime: LinuxRuntime) -> None:
        event = await anext(runtime.events())
        assert (event.container, event.state, event.exit_code) == ("main", State.EXITED, 12)
        assert (await runtime.container("main")).exit_code == 12

    shims: list[int] = []
    volume = machine.root / "volume"
    volume.mkdir()
    machine.run(first)
    (volume / "go").touch()
    asyncio.run(until(lambda: not alive(shims[0])))
    machine.run(second)


def test_kill_9_of_the_asking_process_harms_nothing(machine: Any) -> None:
    program = textwrap.dedent(f"""
        import asyncio, os, signal
        from pathlib import Path
        from tiphys.runtime.linux import LinuxRuntime
        from tiphys.runtime.types import ContainerSpec, SandboxSpec
        from tiphys.testing.busybox import BusyboxImages
        async def main():
            runtime = LinuxRuntime(Path({str(machine.root)!r}), BusyboxImages([Path({str(machine.layer)!r})]))
            await runtime.create_sandbox(SandboxSpec("box", network="none", hostname="boxy",
                cgroup_parent="tiphys/{machine.name}/box"))
            await runtime.create_container(ContainerSpec("main", "box", "busybox", ("sleep", "1000")))
            await runtime.start_container("main")
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """)
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL

    async def scenario(runtime: LinuxRuntime) -> None:
        assert (await runtime.container("main")).state is State.RUNNING
        assert (await runtime.exec_sync("main", ["true"], 5)).exit_code == 0

    machine.run(scenario)


def test_a_dead_helper_is_replaced(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000", id="one")
        helper = helper_of(shim_of(runtime, "one"))
        os.kill(helper, signal.SIGKILL)
        await until(lambda: not alive(helper))
        await machine.start(runtime, "sleep", "1000", id="two")
        assert (await runtime.exec_sync("one", ["true"], 5)).exit_code == 0
        assert (await runtime.stop_container("one", 0)).exit_code == 137

    machine.run(scenario)


def test_a_killed_shim_ends_its_container(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        status = await machine.start(runtime, "sleep", "1000")
        os.kill(shim_of(runtime, "main"), signal.SIGKILL)
        await until(lambda: not alive(status.pid))
        status = await runtime.stop_container("main", 10)
        assert (status.state, status.exit_code) == (State.EXITED, 137)
        assert "shim was killed" in status.error

    machine.run(scenario)


def test_a_dead_pause_process_is_told(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        events = runtime.events()
        (sandbox,) = await runtime.sandboxes()
        os.kill(sandbox.pid, signal.SIGKILL)
        event = await anext(events)
        assert (event.sandbox, event.container, event.state) == ("box", "", State.EXITED)
        (sandbox,) = await runtime.sandboxes()
        assert sandbox.state is State.EXITED
        assert (await runtime.create_sandbox(sandbox.spec)).state is State.RUNNING

    machine.run(scenario)


def test_creating_a_sandbox_again_is_harmless(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        (before,) = await runtime.sandboxes()
        assert await runtime.create_sandbox(machine.sandbox()) == before

    machine.run(scenario)


def test_containers_of_a_sandbox_share_what_they_should(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await runtime.create_sandbox(machine.sandbox("shared", share_pid=True, sysctls={"kernel.shmmax": "4242"}))
        status = await machine.start(runtime, "sleep", "1111", id="one", sandbox="shared")
        await machine.start(runtime, "sleep", "2222", id="two", sandbox="shared")
        await machine.start(runtime, "sleep", "3333", id="other")
        look = await runtime.exec_sync("two", ["sh", "-c", "ps; cat /proc/sys/kernel/shmmax; echo x > /dev/shm/f"], 5)
        assert b"sleep 1111" in look.stdout
        assert b"sleep 3333" not in look.stdout
        assert b"\n4242\n" in look.stdout
        assert (await runtime.exec_sync("one", ["cat", "/dev/shm/f"], 5)).stdout == b"x\n"
        assert (await runtime.exec_sync("other", ["cat", "/dev/shm/f"], 5)).exit_code == 1
        await runtime.exec_sync("one", ["sh", "-c", "sleep 4444 & "], 5)
        await runtime.stop_container("one", 0)
        assert not alive(status.pid)
        assert b"sleep 4444" not in (await runtime.exec_sync("two", ["ps"], 5)).stdout
        assert b" Z " not in (await runtime.exec_sync("two", ["sh", "-c", "cat /proc/[0-9]*/stat"], 5)).stdout

    machine.run(scenario)


def test_removing_a_sandbox_leaves_nothing(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        pids = [(await machine.start(runtime, "sleep", "1000", id=f"c{n}")).pid for n in range(3)]
        pids += [shim_of(runtime, f"c{n}") for n in range(3)]
        pids += [sandbox.pid for sandbox in await runtime.sandboxes()]
        await runtime.remove_sandbox("box")
        await until(lambda: not any(alive(pid) for pid in pids))
        assert not list(Path("/sys/fs/cgroup").glob(f"*/tiphys/{machine.name}/box"))
        assert str(machine.root) not in Path("/proc/self/mountinfo").read_text()
        assert [path.name for path in machine.root.glob("*/*") if path.parent.name != "seccomp"] == []
        assert (await runtime.containers(), await runtime.sandboxes()) == ([], [])

    machine.run(scenario)


def test_an_idle_container_uses_no_cpu(machine: Any) -> None:
    def ticks(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000", id="plain")
        await machine.start(runtime, "sh", id="terminal", tty=True, stdin=True)
        pids = [shim_of(runtime, "plain"), shim_of(runtime, "terminal"), (await runtime.sandboxes())[0].pid]
        before = [ticks(pid) for pid in pids]
        await asyncio.sleep(0.5)  # noqa: TID251 - measures real time
        assert [ticks(pid) for pid in pids] == before

    machine.run(scenario)


def test_sixty_containers_at_once(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(machine.finish(runtime, "sh", "-c", f"exit {n}", id=f"c{n}")) for n in range(60)]
        assert [task.result().exit_code for task in tasks] == list(range(60))

    machine.run(scenario)
