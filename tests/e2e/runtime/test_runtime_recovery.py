"""LinuxRuntime over a directory that a crash, a full disk or a person has damaged: what can be read is there, the rest
is removed, and the start never fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.runtime.conftest import Machine
from tiphys.runtime import syscalls
from tiphys.runtime.cleanup import purge
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import RuntimeFailure, State

pytestmark = pytest.mark.e2e

NONSENSE = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b"{}",
    b'{"state": 5}',
    b'{"state": "running"}',
    b'{"pid": "x"}',
    b"\xff\0",
)


def directory(machine: Any, kind: str, id: str) -> Path:
    return Path(machine.root, kind, id)


async def running(machine: Any, runtime: LinuxRuntime) -> None:
    await machine.start(runtime, "sleep", "1000", id="good")
    await machine.start(runtime, "sleep", "1000", id="hurt")


@pytest.mark.parametrize("content", NONSENSE)
def test_a_state_file_with_nonsense_costs_nothing_while_the_shim_lives(machine: Any, content: bytes) -> None:
    async def second(runtime: LinuxRuntime) -> None:
        status = await runtime.stop_container("hurt", 0)
        assert (status.state, status.exit_code) == (State.EXITED, 137)
        assert (await runtime.container("good")).state is State.RUNNING

    machine.run(lambda runtime: running(machine, runtime))
    (directory(machine, "containers", "hurt") / "state.json").write_bytes(content)
    machine.run(second)


@pytest.mark.parametrize("name", ["spec.json", "prepared.json"])
@pytest.mark.parametrize("content", NONSENSE)
def test_a_container_that_cannot_be_read_is_ended_and_removed(machine: Any, content: bytes, name: str) -> None:
    async def first(runtime: LinuxRuntime) -> None:
        await running(machine, runtime)
        pids.append((await runtime.container("hurt")).pid)

    async def second(runtime: LinuxRuntime) -> None:
        assert [status.spec.id for status in await runtime.containers()] == ["good"]
        assert (await runtime.exec_sync("good", ["true"], 5)).exit_code == 0
        assert not directory(machine, "containers", "hurt").exists()

    pids: list[int] = []
    machine.run(first)
    (directory(machine, "containers", "hurt") / name).write_bytes(content)
    machine.run(second)
    assert not Path(f"/proc/{pids[0]}/root/proc").exists()


@pytest.mark.parametrize("name", ["spec.json", "state.json"])
@pytest.mark.parametrize("content", NONSENSE)
def test_a_sandbox_that_cannot_be_read_leaves_nothing(machine: Any, content: bytes, name: str) -> None:
    async def first(runtime: LinuxRuntime) -> None:
        await runtime.create_sandbox(machine.sandbox("hurt"))

    async def second(runtime: LinuxRuntime) -> None:
        found = {status.spec.id: status.state for status in await runtime.sandboxes()}
        assert found.get("hurt", State.EXITED) is State.EXITED
        assert found["box"] is State.RUNNING
        await runtime.remove_sandbox("hurt")
        assert not directory(machine, "sandboxes", "hurt").exists()
        assert str(directory(machine, "sandboxes", "hurt")) not in Path("/proc/self/mountinfo").read_text()

    machine.run(first)
    (directory(machine, "sandboxes", "hurt") / name).write_bytes(content)
    machine.run(second)


def test_strange_things_in_the_directory_do_not_stop_a_start(machine: Any) -> None:
    async def second(runtime: LinuxRuntime) -> None:
        assert [status.spec.id for status in await runtime.containers()] == ["good", "hurt"]

    machine.run(lambda runtime: running(machine, runtime))
    for kind in ("containers", "sandboxes"):
        directory(machine, kind, "a-file").write_text("?")
        directory(machine, kind, "a-loop").symlink_to("a-loop")
        directory(machine, kind, "empty").mkdir()
        (directory(machine, kind, "odd") / "spec.json").mkdir(parents=True)
    machine.run(second)


def test_after_a_restart_of_the_machine_containers_have_ended(machine: Any) -> None:
    """Simulated: all processes are gone and the boot has another name."""

    async def first(runtime: LinuxRuntime) -> None:
        await running(machine, runtime)
        for status in await runtime.containers():
            pids.extend((status.pid, runtime._record(status.spec.id).state["shim"]))
        pids.extend(status.pid for status in await runtime.sandboxes())

    async def look() -> None:
        async with machine.runtime() as runtime:
            for id in ("good", "hurt"):
                status = await runtime.container(id)
                assert (status.state, status.exit_code, status.signal) == (State.EXITED, 255, 0)
            assert [status.state for status in await runtime.sandboxes()] == [State.EXITED]

    pids: list[int] = []
    machine.run(first)
    for pid in [*pids[1::2], *pids[::2]]:
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select((handle,), (), (), 10)
        os.close(handle)
    for path in machine.root.glob("*/*/state.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    asyncio.run(look())


@pytest.fixture
def small(machine: Any) -> Iterator[Machine]:
    """A runtime whose directory is on a disk of 4 MB."""
    root = machine.root / "small"
    root.mkdir()
    syscalls.mount("small", str(root), "tmpfs", 0, "size=4m")
    made = Machine(root, machine.layer)
    made.name = machine.name
    yield made
    assert [item for item in purge(root, machine.name) if "Device or resource busy" not in item] == []
    assert not root.exists() or not os.path.ismount(root)


def fill(root: Path) -> None:
    with contextlib.suppress(OSError), (root / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_an_end_on_a_full_disk_is_recorded_with_its_code(small: Machine) -> None:
    async def first(runtime: LinuxRuntime) -> None:
        await small.start(runtime, "sh", "-c", "read line; exit 9", id="main", stdin=True, log_path="")
        fill(small.root)
        session = await runtime.attach("main")
        await session.write(b"go\n")
        status = await runtime.stop_container("main", 5)
        assert (status.state, status.exit_code) == (State.EXITED, 9)

    async def second(runtime: LinuxRuntime) -> None:
        assert (await runtime.container("main")).exit_code == 9

    small.run(first)
    asyncio.run(_again(small, second))


def test_a_full_disk_is_told_and_what_is_there_can_be_removed(small: Machine) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await small.start(runtime, "sleep", "1000", id="main", log_path="")
        fill(small.root)
        with pytest.raises((RuntimeFailure, OSError), match="No space left on device"):
            await small.start(runtime, "sleep", "1000", id="second", log_path="")
        await runtime.remove_sandbox("box")
        assert (await runtime.containers(), await runtime.sandboxes()) == ([], [])
        (small.root / "filler").unlink()
        await runtime.create_sandbox(small.sandbox())
        await small.start(runtime, "sleep", "1000", id="second", log_path="")

    small.run(scenario)


async def _again(machine: Machine, scenario: Callable[[LinuxRuntime], Awaitable[None]]) -> None:
    async with machine.runtime() as runtime:
        await scenario(runtime)
