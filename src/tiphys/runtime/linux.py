"""LinuxRuntime: containers for real, with namespaces, cgroups, overlayfs and seccomp of the running kernel.

All state is in one directory: `sandboxes/ID`, `containers/ID` and the helper's socket. Any number of processes may
come and go; shims and pause processes carry on, and a new LinuxRuntime over the same directory finds them again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tiphys import __version__
from tiphys.base.clock import Clock, SystemClock
from tiphys.runtime import bundle, cgroups, protocol, usage
from tiphys.runtime.cgroup_tree import CgroupTree
from tiphys.runtime.channel import Channel
from tiphys.runtime.containers import Containers
from tiphys.runtime.dial import SocketDuplex, connect_in
from tiphys.runtime.handlers import OWN, OciHandler, discover, pick
from tiphys.runtime.launcher import Launcher
from tiphys.runtime.measures import DiskUsage, Processes, SandboxUsage, Usage
from tiphys.runtime.records import ContainerRecord, SandboxRecord
from tiphys.runtime.sandboxes import Sandboxes
from tiphys.runtime.sessions import AttachSession, ExecSession
from tiphys.runtime.shim import SOCKET
from tiphys.runtime.types import (
    Cgroups,
    ContainerEvent,
    ContainerSpec,
    ContainerStatus,
    ExecResult,
    ImageStore,
    Network,
    NoSuchContainer,
    Resources,
    RuntimeFailure,
    RuntimeHandler,
    RuntimeInfo,
    SandboxSpec,
    SandboxStatus,
    State,
)
from tiphys.runtime.usage import measure

OUTPUT_LIMIT = 16 * 1024 * 1024


class LinuxRuntime:
    """The Runtime of one node: its state below `root`, its images, and its networks by name.

    `network="host"` joins the node's namespace as its networks tell it. Use it as `async with`, or call any method:
    the first one reads what is on disk.
    """

    def __init__(
        self,
        root: Path,
        images: Any,
        networks: Mapping[str, Network] | None = None,
        clock: Clock | None = None,
        handlers: Mapping[str, OciHandler] | None = None,
    ) -> None:
        self._handlers = discover() if handlers is None else handlers
        self.images: ImageStore = images
        self._root = Path(root).absolute()
        self._launcher = Launcher(self._root)
        self._subscribers: set[asyncio.Queue[ContainerEvent]] = set()
        self._clock = clock or SystemClock()
        self._layout = cgroups.detect()
        self.cgroups: Cgroups = CgroupTree(self._layout)
        self._unseen: list[ContainerEvent] = []
        self._opened = self._recovering = False
        self._sandboxes = Sandboxes(
            self._root / "sandboxes", self._launcher, networks or {}, self._layout, self._clock, self._sandbox_ended
        )
        self._containers = Containers(
            self._root / "containers", self._launcher, images, self._layout, self._clock, self._changed, self._handlers
        )

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _open(self) -> None:
        if not self._opened:
            self._opened = self._recovering = True
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sandboxes.recover()
            self._containers.recover()
            self._recovering = False

    # sandboxes

    async def info(self) -> RuntimeInfo:
        """This runtime, by its own names, and the OCI runtimes that it may leave containers to."""
        own = (*OWN, *(() if "runc" in self._handlers else ("runc",)))
        mine = [RuntimeHandler(name, user_namespaces=True) for name in own]
        handlers = (*mine, *map(RuntimeHandler, sorted(self._handlers)))
        return RuntimeInfo("tiphys", __version__, handlers, await self._sandboxes.network_problems())

    async def create_sandbox(self, spec: SandboxSpec) -> SandboxStatus:
        """Namespaces, pause process, network, cgroup. Harmless if it exists already as asked."""
        self._open()
        pick(self._handlers, spec.handler)
        existed = spec.id in self._sandboxes.records
        record = await self._sandboxes.create(spec)
        if not existed:
            self._tell(ContainerEvent(spec.id, "", State.RUNNING))
        return record.status()

    async def sandboxes(self) -> Sequence[SandboxStatus]:
        """All of them, also those whose pause process has ended."""
        self._open()
        await self._sandboxes.settle()
        return [record.status() for record in self._sandboxes.records.values()]

    async def remove_sandbox(self, id: str) -> None:
        """Kill all that is in it and release everything. Harmless if it is gone."""
        self._open()
        await self._sandboxes.settle()
        async with asyncio.TaskGroup() as group:
            for record in [item for item in self._containers.records.values() if item.spec.sandbox == id]:
                group.create_task(self._containers.remove(record))
        sandbox = self._sandboxes.records.get(id)
        if sandbox is not None:
            await self._sandboxes.remove(sandbox)

    # containers

    async def create_container(self, spec: ContainerSpec) -> None:
        """Prepare its root file system and record it; nothing runs yet. Raises NoSuchImage, InvalidSpec."""
        self._open()
        self._sandbox_of(spec)
        await self._containers.create(spec)

    async def start_container(self, id: str) -> ContainerStatus:
        """Run it; returns when its program was executed. Raises RuntimeFailure with the reason if it was not."""
        record = self._record(id)
        sandbox = self._sandbox_of(record.spec)
        joined = self._sandboxes.namespaces(sandbox)
        if record.spec.pid_of:
            joined["namespaces"]["pid"] = f"/proc/{self._running(record.spec.pid_of).state['pid']}/ns/pid"
        await self._containers.start(record, joined)
        return record.status()

    async def stop_container(self, id: str, grace: float) -> ContainerStatus:
        """Send the stop signal, SIGKILL after `grace` seconds; returns when it has exited. Harmless if it has."""
        record = self._record(id)
        await self._containers.stop(record, grace)
        return record.status()

    async def signal_container(self, id: str, signal: int) -> None:
        """To its first process."""
        await self._containers.signal(self._record(id), signal)

    async def remove_container(self, id: str) -> None:
        """Its files, not its log. Kills it first. Harmless if it is gone."""
        self._open()
        record = self._containers.records.get(id)
        if record is not None:
            await self._containers.remove(record)

    async def container(self, id: str) -> ContainerStatus:
        """Raises NoSuchContainer."""
        return self._record(id).status()

    async def containers(self) -> Sequence[ContainerStatus]:
        """All of them, also those that have ended."""
        self._open()
        return [record.status() for record in self._containers.records.values()]

    def _record(self, id: str) -> ContainerRecord:
        self._open()
        record = self._containers.records.get(id)
        if record is None:
            raise NoSuchContainer(f"no container {id}")
        return record

    def _running(self, id: str) -> ContainerRecord:
        record = self._record(id)
        if not record.running:
            raise RuntimeFailure(f"container {id} is not running")
        return record

    def _sandbox_of(self, spec: ContainerSpec) -> SandboxRecord:
        record = self._sandboxes.records.get(spec.sandbox)
        if record is None:
            raise RuntimeFailure(f"container {spec.id}: no sandbox {spec.sandbox}")
        return record

    # events

    def _changed(self, record: ContainerRecord, state: State) -> None:
        code = record.state.get("exit_code", 0)
        self._tell(ContainerEvent(record.spec.sandbox, record.spec.id, state, code))

    def _sandbox_ended(self, record: SandboxRecord) -> None:
        self._tell(ContainerEvent(record.spec.id, "", State.EXITED))

    def _tell(self, event: ContainerEvent) -> None:
        if self._recovering:
            self._unseen.append(event)
        for queue in self._subscribers:
            queue.put_nowait(event)

    def events(self) -> AsyncIterator[ContainerEvent]:
        """Changes from now on, also those that happened while no process watched (an end may be told twice)."""
        self._open()
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        for event in self._unseen:
            queue.put_nowait(event)
        self._unseen.clear()
        self._subscribers.add(queue)
        return self._stream(queue)

    async def _stream(self, queue: asyncio.Queue[ContainerEvent]) -> AsyncIterator[ContainerEvent]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)

    # inside

    async def exec(self, id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> ExecSession:
        """Run `argv` beside the container's process, with its user, environment, limits and confinement."""
        record = self._running(id)
        channel = Channel(await self._launcher.connect())
        request = {
            "op": "exec",
            "directory": str(record.directory),
            "pid": record.state["pid"],
            "start_time": record.state["start_time"],
            "argv": list(argv),
            "tty": tty,
            "stdin": stdin,
        }
        try:
            answer = await channel.ask(request)
        except BaseException:
            channel.close()
            raise
        if "error" in answer:
            channel.close()
            raise ExecFailure(answer["error"], answer["code"])
        return ExecSession(channel, channel.take_descriptors(), tty=tty, stdin=stdin)

    async def exec_sync(self, id: str, argv: Sequence[str], timeout: float) -> ExecResult:
        """Run to the end; killed after `timeout` seconds (0: no limit). Output is cut at 16 MiB."""
        try:
            session = await self.exec(id, argv)
        except ExecFailure as failure:
            return ExecResult(failure.code, b"", str(failure).encode())
        output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_collect(session, output))
                waits: set[asyncio.Task[Any]] = {reading}
                if timeout > 0:
                    waits.add(group.create_task(self._clock.sleep(timeout)))
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                timed_out = not reading.done()
                for task in waits:
                    task.cancel()
            code = 137 if timed_out else await session.wait()
        finally:
            await session.close()
        return ExecResult(code, bytes(output[1]), bytes(output[2]), timed_out)

    async def attach(self, id: str) -> AttachSession:
        """To the container's streams, from now on."""
        record = self._running(id)
        try:
            channel = Channel(protocol.connect(str(record.directory), SOCKET))
        except OSError as error:
            raise RuntimeFailure(f"container {id} cannot be attached to: {error}") from error
        session = AttachSession(channel)
        await session.begin()
        return session

    async def dial(self, sandbox: str, port: int) -> SocketDuplex:
        """A TCP connection to localhost:`port` inside the sandbox's network."""
        self._open()
        record = self._sandboxes.records.get(sandbox)
        if record is None or not record.alive:
            raise RuntimeFailure(f"sandbox {sandbox} is not running")
        return await connect_in(record.status().network_namespace, port)

    async def usage(self, id: str) -> Usage:
        """CPU, memory and processes, from its cgroup."""
        return measure(self._layout, self._cgroup(self._running(id)))

    async def processes(self, id: str) -> Processes:
        """What its processes hold, from /proc."""
        record = self._running(id)
        return await asyncio.to_thread(usage.processes, self._layout, self._cgroup(record), record.state["pid"])

    async def disk_usage(self, id: str) -> DiskUsage:
        """Of the upper directory of its root file system."""
        return await asyncio.to_thread(usage.disk, str(self._record(id).directory / "upper"))

    async def sandbox_usage(self, id: str) -> SandboxUsage:
        """Of its cgroup, and of its network unless that is the host's."""
        self._open()
        record = self._sandboxes.records.get(id)
        if record is None or not record.alive:
            raise RuntimeFailure(f"sandbox {id} is not running")
        own = record.spec.network != "host"
        used = measure(self._layout, self._sandboxes.cgroup_parent(record.spec))
        return SandboxUsage(used, usage.interfaces(record.state["pid"]) if own else ())

    async def update(self, id: str, resources: Resources, labels: Mapping[str, str] | None = None) -> None:
        """Change the limits of a running container; its spec keeps them, with `labels` added to its own."""
        record = self._running(id)
        self.cgroups.set(self._cgroup(record), resources)
        self._containers.amend(record, resources, labels or {})

    def _cgroup(self, record: ContainerRecord) -> str:
        return bundle.cgroup_path(record.spec, self._sandboxes.cgroup_parent(self._sandbox_of(record.spec).spec))

    async def reopen_log(self, id: str) -> None:
        """Tell the shim that its log file was renamed."""
        record = self._running(id)
        if record.channel is not None:
            await record.channel.send(protocol.message({"op": "reopen-log"}))

    async def close(self) -> None:
        """Let go of everything; containers go on. The helper ends: nobody needs it any more."""
        if not self._opened:
            return
        self._opened = False
        self._containers.close()
        self._sandboxes.close()
        self._containers.records.clear()
        self._sandboxes.records.clear()
        with contextlib.suppress(OSError, RuntimeFailure):
            channel = Channel(protocol.connect(str(self._root), "helper.sock"))
            try:
                await channel.ask({"op": "stop", "directory": str(self._root)})
            finally:
                channel.close()


class ExecFailure(RuntimeFailure):
    """The program of an exec could not be run; `code` is 126, 127 or 128 as shells and Docker have it."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"OCI runtime exec failed: exec failed: unable to start container process: {reason}: unknown")
        self.code = code


async def _collect(session: ExecSession, output: dict[int, bytearray]) -> None:
    async for number, data in session.output():
        room = OUTPUT_LIMIT - len(output[number])
        output[number] += data[:room]
