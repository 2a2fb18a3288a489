"""FakeRuntime: sandboxes and containers in memory, on the clock that it is given.

It keeps to the seam (runtime.types) and passes the scenarios of testing.runtime_behaviour, as LinuxRuntime does.
Processes are programs of testing.programs. Logs are real files in the CRI format, so that whoever serves them can be
tested too. Its tasks belong to it: use it as `async with FakeRuntime(clock) as runtime`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tiphys.base.clock import Clock
from tiphys.base.http.types import Duplex
from tiphys.runtime.containers import merged
from tiphys.runtime.logs import LineSplitter, LogWriter
from tiphys.runtime.measures import DiskUsage, Interface, Processes, SandboxUsage, Usage
from tiphys.runtime.types import (
    Cgroups,
    ContainerEvent,
    ContainerSpec,
    ContainerStatus,
    ExecResult,
    ImageStore,
    InvalidSpec,
    NoSuchContainer,
    NoSuchImage,
    Resources,
    RuntimeFailure,
    RuntimeHandler,
    RuntimeInfo,
    SandboxSpec,
    SandboxStatus,
    State,
)
from tiphys.testing.cgroups import FakeCgroups
from tiphys.testing.images import FakeImages
from tiphys.testing.programs import PROGRAMS, Process, Program, signal_number


class FakeSession:
    """An exec or an attachment: chunks in a queue, None at the end."""

    def __init__(self, process: Process, owner: FakeRuntime, *, kill_on_close: bool) -> None:
        self._process, self._owner, self._kill_on_close = process, owner, kill_on_close
        self.chunks: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.sizes: list[tuple[int, int]] = []
        """Every resize, for tests to look at."""

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Until the process has ended."""
        while (chunk := await self.chunks.get()) is not None:
            yield chunk

    async def write(self, data: bytes) -> None:
        """To the process's stdin."""
        self._process.stdin.put_nowait(data)

    async def close_stdin(self) -> None:
        """End of input."""
        self._process.stdin.put_nowait(b"")

    async def detach(self) -> None:
        """End of input; programs of this runtime end with it."""
        await self.close_stdin()

    async def resize(self, width: int, height: int) -> None:
        """Noted in `sizes`."""
        self.sizes.append((width, height))

    async def wait(self) -> int:
        """The exit code."""
        return await asyncio.shield(self.exit)

    async def close(self) -> None:
        """Let go."""
        if self._kill_on_close:
            self._process.signal(9)
        self.end(137 if self._kill_on_close else 0)

    def end(self, code: int) -> None:
        """The process has ended."""
        if not self.exit.done():
            self.exit.set_result(code)
            self.chunks.put_nowait(None)


@dataclass(slots=True)
class _Container:
    status: ContainerStatus
    process: Process | None = None
    sessions: list[FakeSession] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeRuntime:
    """A Runtime for tests. `programs` adds to or replaces what can be run, by argv[0]."""

    def __init__(
        self, clock: Clock, images: FakeImages | None = None, programs: Mapping[str, Program] | None = None
    ) -> None:
        self.images: ImageStore = images or FakeImages()
        self.cgroups: Cgroups = FakeCgroups()
        self.handlers = ("", "tiphys", "runc")
        self.programs = {**PROGRAMS, **(programs or {})}
        self._clock = clock
        self._sandboxes: dict[str, SandboxStatus] = {}
        self._containers: dict[str, _Container] = {}
        self._subscribers: set[asyncio.Queue[ContainerEvent]] = set()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[int]] = set()
        self._next = 1

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    # sandboxes

    async def info(self) -> RuntimeInfo:
        """Of no real runtime."""
        return RuntimeInfo("fake", "1", tuple(RuntimeHandler(name, user_namespaces=True) for name in self.handlers))

    async def create_sandbox(self, spec: SandboxSpec) -> SandboxStatus:
        """Gives it an address of 10.99.0.0/16 unless it has no network of its own."""
        if spec.handler not in self.handlers:
            raise InvalidSpec(f'failed to get sandbox runtime: no runtime for "{spec.handler}" is configured')
        status = self._sandboxes.get(spec.id)
        if status is not None and status.state is State.RUNNING:
            if status.spec != spec:
                raise InvalidSpec(f"sandbox {spec.id} exists with another spec")
            return status
        number, self._next = self._next, self._next + 1
        ips = () if spec.network in ("host", "none") else (f"10.99.{number // 250}.{number % 250 + 2}",)
        namespace = f"/proc/{100_000 + number}/ns/net"
        status = SandboxStatus(spec, State.RUNNING, ips, self._clock.time(), 100_000 + number, namespace)
        self._sandboxes[spec.id] = status
        self._tell(ContainerEvent(spec.id, "", State.RUNNING))
        return status

    async def sandboxes(self) -> Sequence[SandboxStatus]:
        """All of them."""
        return list(self._sandboxes.values())

    async def remove_sandbox(self, id: str) -> None:
        """And its containers."""
        for container in list(self._containers.values()):
            if container.status.spec.sandbox == id:
                await self.remove_container(container.status.spec.id)
        if self._sandboxes.pop(id, None) is not None:
            self._tell(ContainerEvent(id, "", State.EXITED))

    def fail_sandbox(self, id: str) -> None:
        """As if its pause process had been killed."""
        self._sandboxes[id] = replace(self._sandboxes[id], state=State.EXITED, pid=0, network_namespace="")
        self._tell(ContainerEvent(id, "", State.EXITED))

    # containers

    async def create_container(self, spec: ContainerSpec) -> None:
        """Raises NoSuchImage, InvalidSpec."""
        if spec.sandbox not in self._sandboxes:
            raise RuntimeFailure(f"container {spec.id}: no sandbox {spec.sandbox}")
        if spec.id in self._containers:
            raise InvalidSpec(f"container {spec.id} exists already")
        if not spec.argv:
            raise InvalidSpec(f"container {spec.id}: no command specified")
        if await self.images.get(spec.image) is None:
            raise NoSuchImage(f"image {spec.image} is not here")
        self._containers[spec.id] = _Container(ContainerStatus(spec, State.CREATED, self._clock.time()))
        self._tell(ContainerEvent(spec.sandbox, spec.id, State.CREATED))

    async def start_container(self, id: str) -> ContainerStatus:
        """Raises RuntimeFailure when argv[0] is no program."""
        container = self._get(id)
        spec = container.status.spec
        if container.status.state is State.RUNNING:
            return container.status
        program = self.programs.get(spec.argv[0])
        if program is None:
            reason = f'exec: "{spec.argv[0]}": executable file not found in $PATH'
            text = f"OCI runtime create failed: unable to start container process: {reason}: unknown"
            self._exited(container, 127, error=text)
            raise RuntimeFailure(text)
        self._next += 1
        now = self._clock.time()
        container.status = replace(container.status, state=State.RUNNING, started_at=now, pid=self._next)
        container.ended.clear()
        container.process = Process(spec.argv, dict(spec.env), self._clock, lambda *_: None)
        self._spawn(self._live(container, container.process, program))
        self._tell(ContainerEvent(spec.sandbox, id, State.RUNNING))
        return container.status

    async def _live(self, container: _Container, process: Process, program: Program) -> int:
        spec = container.status.spec
        writer: LogWriter | None = None
        lines: dict[int, LineSplitter] = {}
        if spec.log_path:
            nanoseconds = self._nanoseconds
            writer = LogWriter(spec.log_path, spec.log_max_bytes, spec.log_max_files, nanoseconds)
            lines = {1: LineSplitter(writer, "stdout"), 2: LineSplitter(writer, "stderr")}

        def write(stream: int, data: bytes) -> None:
            if stream in lines:
                lines[stream].feed(data)
            for session in container.sessions:
                session.chunks.put_nowait((stream, data))

        process.write = write
        code = await _run(process, program)
        for splitter in lines.values():
            splitter.close()
        if writer is not None:
            writer.close()
        self._exited(container, code)
        return code

    def _nanoseconds(self) -> int:
        return int(self._clock.time() * 1e9)

    def _exited(self, container: _Container, code: int, error: str = "") -> None:
        number = code - 128 if code > 128 else 0
        container.status = replace(
            container.status, state=State.EXITED, finished_at=self._clock.time(), exit_code=code, signal=number, pid=0,
            error=error,
        )  # fmt: skip
        for session in container.sessions:
            session.end(0)
        container.sessions.clear()
        container.ended.set()
        spec = container.status.spec
        self._tell(ContainerEvent(spec.sandbox, spec.id, State.EXITED, code))

    async def stop_container(self, id: str, grace: float) -> ContainerStatus:
        """The stop signal, then SIGKILL."""
        container = self._get(id)
        if container.process is not None and container.status.state is State.RUNNING:
            if grace > 0:
                container.process.signal(signal_number(container.status.spec.stop_signal or "SIGTERM"))
                await self._first(container.ended.wait(), self._clock.sleep(grace))
            container.process.signal(9)
            await container.ended.wait()
        return container.status

    async def _first(self, *waits: Coroutine[Any, Any, object]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def signal_container(self, id: str, signal: int) -> None:
        """Raises RuntimeFailure when it does not run."""
        self._running(id).signal(signal)

    async def remove_container(self, id: str) -> None:
        """Kills it first."""
        if id in self._containers:
            await self.stop_container(id, 0)
            del self._containers[id]

    async def container(self, id: str) -> ContainerStatus:
        """Raises NoSuchContainer."""
        return self._get(id).status

    async def containers(self) -> Sequence[ContainerStatus]:
        """All of them."""
        return [container.status for container in self._containers.values()]

    def _get(self, id: str) -> _Container:
        if id not in self._containers:
            raise NoSuchContainer(f"no container {id}")
        return self._containers[id]

    def _running(self, id: str) -> Process:
        container = self._get(id)
        if container.process is None or container.status.state is not State.RUNNING:
            raise RuntimeFailure(f"container {id} is not running")
        return container.process

    # events

    def _tell(self, event: ContainerEvent) -> None:
        for queue in self._subscribers:
            queue.put_nowait(event)

    def events(self) -> AsyncIterator[ContainerEvent]:
        """From now on."""
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        self._subscribers.add(queue)
        return self._stream(queue)

    async def _stream(self, queue: asyncio.Queue[ContainerEvent]) -> AsyncIterator[ContainerEvent]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)

    # inside

    async def exec(self, id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> FakeSession:
        """Runs a program with the container's environment."""
        parent = self._running(id)
        program = self.programs.get(argv[0])
        if program is None:
            reason = f'exec: "{argv[0]}": executable file not found in $PATH'
            raise RuntimeFailure(
                f"OCI runtime exec failed: exec failed: unable to start container process: {reason}: unknown"
            )
        process = Process(argv, parent.env, self._clock, lambda *_: None)
        session = FakeSession(process, self, kill_on_close=True)
        process.write = lambda stream, data: session.chunks.put_nowait((stream, data))
        if not stdin:
            process.stdin.put_nowait(b"")
        self._spawn(self._execute(session, process, program))
        return session

    async def _execute(self, session: FakeSession, process: Process, program: Program) -> int:
        code = await _run(process, program)
        session.end(code)
        return code

    async def exec_sync(self, id: str, argv: Sequence[str], timeout: float) -> ExecResult:
        """Killed after `timeout` seconds of the clock."""
        try:
            session = await self.exec(id, argv)
        except NoSuchContainer:
            raise
        except RuntimeFailure as failure:
            if "executable file not found" not in str(failure):
                raise
            return ExecResult(127, b"", str(failure).encode())
        output = {1: b"", 2: b""}

        async def collect() -> None:
            async for number, data in session.output():
                output[number] += data

        waits = [collect(), self._clock.sleep(timeout)] if timeout > 0 else [collect()]
        await self._first(*waits)
        timed_out = not session.exit.done()
        await session.close()
        return ExecResult(await session.wait(), output[1], output[2], timed_out)

    async def attach(self, id: str) -> FakeSession:
        """To the streams from now on."""
        session = FakeSession(self._running(id), self, kill_on_close=False)
        self._get(id).sessions.append(session)
        return session

    async def dial(self, sandbox: str, port: int) -> Duplex:
        """Nobody listens in a fake sandbox: raises RuntimeFailure."""
        raise RuntimeFailure(f"failed to connect to localhost:{port} inside namespace: Connection refused")

    async def usage(self, id: str) -> Usage:
        """The same for all."""
        self._running(id)
        return self._usage()

    def _usage(self) -> Usage:
        return Usage(
            cpu_nanoseconds=1_000_000,
            memory_bytes=1 << 20,
            memory_working_set=1 << 20,
            pids=1,
            time=self._clock.time(),
        )

    async def processes(self, id: str) -> Processes:
        """One."""
        self._running(id)
        return Processes(count=1)

    async def disk_usage(self, id: str) -> DiskUsage:
        """A directory."""
        self._get(id)
        return DiskUsage(4096, 1)

    async def sandbox_usage(self, id: str) -> SandboxUsage:
        """The same for all."""
        return SandboxUsage(self._usage(), (Interface("eth0"),))

    async def update(self, id: str, resources: Resources, labels: Mapping[str, str] | None = None) -> None:
        """Noted in the container's spec."""
        container = self._get(id)
        if container.status.state is not State.RUNNING:
            raise RuntimeFailure(f"container {id} is not running")
        old = container.status.spec
        spec = replace(old, resources=merged(old.resources, resources), labels={**old.labels, **(labels or {})})
        container.status = replace(container.status, spec=spec)

    def _spawn(self, work: Coroutine[Any, Any, int]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Nothing to let go of."""


async def _run(process: Process, program: Program) -> int:
    """The program's exit code, or that of the signal that ended it."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_await(program, process))
        killed = group.create_task(process.ended_by.get())
        await asyncio.wait({running, killed}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        killed.cancel()
    if killed.done() and not killed.cancelled():
        number = killed.result()
        return process.traps.get(number, 128 + number)
    return running.result()


async def _await(program: Program, process: Process) -> int:
    return await program(process)
