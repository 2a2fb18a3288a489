"""Scenarios that every Runtime must pass: FakeRuntime on the virtual clock, LinuxRuntime with real containers.

Each takes a runtime that has an image busybox and no sandboxes, and a directory for logs; it leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tiphys.base.errors import TiphysError
from tiphys.runtime.types import ContainerSpec, InvalidSpec, NoSuchContainer, NoSuchImage, Runtime, SandboxSpec, State

Scenario = Callable[[Runtime, Path], Awaitable[None]]


def _spec(id: str, *argv: str, logs: Path | None = None, stdin: bool = False) -> ContainerSpec:
    log = str(logs / f"{id}.log") if logs is not None else ""
    return ContainerSpec(id, "box", "busybox", argv, log_path=log, stdin=stdin, stdin_once=stdin)


async def _started(runtime: Runtime, id: str, *argv: str, logs: Path | None = None, stdin: bool = False) -> None:
    await runtime.create_sandbox(SandboxSpec("box", network="none"))
    await runtime.create_container(_spec(id, *argv, logs=logs, stdin=stdin))
    await runtime.start_container(id)


async def _refusal(work: Awaitable[object]) -> BaseException:
    try:
        await work
    except TiphysError as error:
        return error
    raise AssertionError("it was not refused")


async def a_container_goes_through_its_states(runtime: Runtime, logs: Path) -> None:
    events = runtime.events()
    await runtime.create_sandbox(SandboxSpec("box", network="none"))
    await runtime.create_container(_spec("one", "sh", "-c", "echo hello; echo oops >&2; exit 3", logs=logs))
    assert (await runtime.container("one")).state is State.CREATED
    assert (await runtime.start_container("one")).state is State.RUNNING
    seen = [await anext(events) for _ in range(4)]
    assert [(event.sandbox, event.container, event.state, event.exit_code) for event in seen] == [
        ("box", "", State.RUNNING, 0),
        ("box", "one", State.CREATED, 0),
        ("box", "one", State.RUNNING, 0),
        ("box", "one", State.EXITED, 3),
    ]
    status = await runtime.container("one")
    assert (status.state, status.exit_code, status.pid) == (State.EXITED, 3, 0)
    assert 0 < status.created_at <= status.started_at <= status.finished_at
    lines = [line.split(" ", 1)[1] for line in (logs / "one.log").read_text().splitlines()]
    assert sorted(lines) == ["stderr F oops", "stdout F hello"]


async def a_deaf_container_is_killed_after_its_grace(runtime: Runtime, logs: Path) -> None:
    await _started(runtime, "deaf", "sleep", "1000")
    status = await runtime.stop_container("deaf", 0.1)
    assert (status.state, status.exit_code, status.signal) == (State.EXITED, 137, 9)
    assert await runtime.stop_container("deaf", 0.1) == status


async def an_obedient_container_ends_with_its_own_code(runtime: Runtime, logs: Path) -> None:
    await _started(runtime, "good", "sh", "-c", "trap 'exit 7' TERM; echo ready; " + "sleep 0.05; " * 400, logs=logs)
    session = await runtime.attach("good")
    while not (logs / "good.log").exists() or "ready" not in (logs / "good.log").read_text():
        assert (await runtime.exec_sync("good", ["sleep", "0.01"], 5)).exit_code == 0
    assert (await runtime.stop_container("good", 30)).exit_code == 7
    await session.close()


async def what_is_not_there_is_refused(runtime: Runtime, logs: Path) -> None:
    assert isinstance(await _refusal(runtime.container("ghost")), NoSuchContainer)
    assert isinstance(await _refusal(runtime.start_container("ghost")), NoSuchContainer)
    await runtime.create_sandbox(SandboxSpec("box", network="none"))
    ghost = ContainerSpec("c", "box", "ghost", ("sh",))
    assert isinstance(await _refusal(runtime.create_container(ghost)), NoSuchImage)
    assert "no sandbox" in str(await _refusal(runtime.create_container(ContainerSpec("c", "no", "busybox", ("sh",)))))
    assert isinstance(await _refusal(runtime.create_container(_spec("c"))), InvalidSpec)
    other = SandboxSpec("box", network="none", hostname="other")
    assert isinstance(await _refusal(runtime.create_sandbox(other)), InvalidSpec)
    await runtime.remove_container("ghost")
    await runtime.remove_sandbox("ghost")


async def a_program_that_is_not_there_is_an_error(runtime: Runtime, logs: Path) -> None:
    await runtime.create_sandbox(SandboxSpec("box", network="none"))
    await runtime.create_container(_spec("bad", "no-such-program"))
    reason = str(await _refusal(runtime.start_container("bad")))
    assert 'exec: "no-such-program": executable file not found in $PATH' in reason
    status = await runtime.container("bad")
    assert (status.state, status.exit_code, status.error) == (State.EXITED, 127, reason)


async def exec_runs_beside_the_container(runtime: Runtime, logs: Path) -> None:
    await _started(runtime, "main", "sleep", "1000")
    result = await runtime.exec_sync("main", ["sh", "-c", "echo out; echo err >&2; exit 4"], 5)
    assert (result.exit_code, result.stdout, result.stderr, result.timed_out) == (4, b"out\n", b"err\n", False)
    late = await runtime.exec_sync("main", ["sh", "-c", "echo early; sleep 100"], 0.2)
    assert (late.stdout, late.timed_out) == (b"early\n", True)
    session = await runtime.exec("main", ["cat"], stdin=True)
    await session.write(b"through")
    await session.close_stdin()
    assert [chunk async for chunk in session.output()] == [(1, b"through")]
    assert await session.wait() == 0
    assert (await runtime.exec_sync("main", ["no-such"], 5)).exit_code == 127
    await runtime.stop_container("main", 0)
    assert "not running" in str(await _refusal(runtime.exec("main", ["true"])))


async def attach_joins_the_streams(runtime: Runtime, logs: Path) -> None:
    await _started(runtime, "main", "cat", stdin=True)
    session = await runtime.attach("main")
    await session.write(b"to and fro\n")
    await session.close_stdin()
    assert b"".join([data async for _, data in session.output()]) == b"to and fro\n"
    assert await session.wait() == 0


async def removing_a_sandbox_removes_its_containers(runtime: Runtime, logs: Path) -> None:
    await _started(runtime, "one", "sleep", "1000")
    await _started(runtime, "two", "sleep", "1000")
    assert {status.spec.id for status in await runtime.containers()} == {"one", "two"}
    await runtime.remove_sandbox("box")
    assert (list(await runtime.containers()), list(await runtime.sandboxes())) == ([], [])


SCENARIOS: tuple[Scenario, ...] = (
    a_container_goes_through_its_states,
    a_deaf_container_is_killed_after_its_grace,
    an_obedient_container_ends_with_its_own_code,
    what_is_not_there_is_refused,
    a_program_that_is_not_there_is_an_error,
    exec_runs_beside_the_container,
    attach_joins_the_streams,
    removing_a_sandbox_removes_its_containers,
)
