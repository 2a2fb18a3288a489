"""CriRuntime: a Runtime whose work is done by containerd, CRI-O or another runtime on a CRI socket.

    runtime = await open_cri("unix:///run/containerd/containerd.sock", clock)
    ...
    await runtime.close()                    # from the task that opened it

IDs that it returns are the other runtime's; it takes those and the caller's own. Cgroups are the machine's, so what
containers use is read from the kernel as with our own runtime. The CRI may tell of changes (GetContainerEvents); where
it does not, everything is listed once a second, as upstream's kubelet does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.types import Code, RpcError
from tiphys.base.http.types import Duplex
from tiphys.runtime import cgroups, spec, usage
from tiphys.runtime.cgroup_tree import CgroupTree
from tiphys.runtime.containers import merged
from tiphys.runtime.cri import convert, protocol, rotation
from tiphys.runtime.cri.images import CriImages
from tiphys.runtime.cri.sessions import FORWARD, PROTOCOL, CriSession, connect, forward
from tiphys.runtime.measures import DiskUsage, Processes, SandboxUsage, Usage
from tiphys.runtime.types import (
    Cgroups,
    ContainerEvent,
    ContainerSpec,
    ContainerStatus,
    ExecResult,
    ImageStore,
    InvalidSpec,
    NoSuchContainer,
    Resources,
    RuntimeFailure,
    RuntimeHandler,
    RuntimeInfo,
    SandboxSpec,
    SandboxStatus,
    State,
)

log = logging.getLogger(__name__)

RELIST = 1.0
_TIMEOUT = 120.0
_LONGEST_OUTPUT = 16 * 1024 * 1024


def socket_path(endpoint: str) -> str:
    """Of unix:///run/x.sock, or a path. Raises InvalidSpec."""
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        raise InvalidSpec(f"container runtime endpoint {endpoint!r} is not like {protocol.SOCKETS[0]}")
    return path


async def open_cri(endpoint: str, clock: Clock, images: str = "") -> CriRuntime:
    """Connect; `images` is the image service's endpoint if that is another. Raises InvalidSpec, RuntimeFailure."""
    runtime = CriRuntime(socket_path(endpoint), clock, socket_path(images or endpoint))
    await runtime.open()
    return runtime


class CriRuntime:
    """See the module's docstring and runtime.types.Runtime."""

    def __init__(self, path: str, clock: Clock, images: str = "") -> None:
        self._channel = Channel(path)
        self._image_channel = Channel(images) if images and images != path else self._channel
        self._clock = clock
        self._layout = cgroups.detect()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids: dict[str, str] = {}
        """The caller's IDs -> the runtime's."""
        self._specs: dict[str, SandboxSpec] = {}
        self._boxes: dict[str, str] = {}
        """Containers' sandboxes, both by the runtime's IDs."""
        self.images: ImageStore = CriImages(self._image_channel, clock)
        self.cgroups: Cgroups = CgroupTree(self._layout)
        self.name = self.version = ""

    async def open(self) -> None:
        """Ask who it is. Raises RuntimeFailure."""
        await self._group.__aenter__()
        try:
            answer = await self._call("Version", {"version": "v1"})
            self.name, self.version = answer["runtime_name"], answer["runtime_version"]
            await self._check_driver()
        except BaseException:
            await self.close()
            raise
        self._spawn(self._rotate_logs())

    async def _check_driver(self) -> None:
        try:
            answer = await self._call("RuntimeConfig", {})
        except RuntimeFailure:
            return  # older runtimes do not tell
        if answer["linux"] is not None and answer["linux"]["cgroup_driver"] == 0:
            raise InvalidSpec(f"{self.name} uses systemd's cgroups, which is not supported: set its driver to cgroupfs")

    async def close(self) -> None:
        """Let go; containers go on."""
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)
        self._channel.close()
        self._image_channel.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, name: str, message: Mapping[str, Any], timeout: float = _TIMEOUT) -> dict[str, Any]:
        try:
            return await self._channel.call(protocol.RUNTIME[name], message, timeout=timeout)
        except RpcError as error:
            if error.code is Code.NOT_FOUND:
                raise NoSuchContainer(str(error)) from error
            raise RuntimeFailure(str(error)) from error

    async def info(self) -> RuntimeInfo:
        """With the conditions that are not fulfilled as its problems."""
        answer = await self._call("Status", {})
        handlers = [
            RuntimeHandler(
                one["name"],
                bool(one["features"] and one["features"]["recursive_read_only_mounts"]),
                bool(one["features"] and one["features"]["user_namespaces"]),
            )
            for one in answer["runtime_handlers"]
        ]
        conditions = (answer["status"] or {"conditions": ()})["conditions"]
        problems = [
            f"container runtime {_PARTS.get(one['type'], '')}not ready: {one['type']}=false "
            f"reason:{one['reason']} message:{one['message']}"
            for one in conditions
            if not one["status"]
        ]
        return RuntimeInfo(self.name, self.version, tuple(handlers), tuple(problems))

    # sandboxes

    async def create_sandbox(self, wanted: SandboxSpec) -> SandboxStatus:
        """Harmless if it exists already."""
        for known in await self._list_sandboxes({convert.ID: wanted.id}):
            if known.state is State.RUNNING:
                return await self._sandbox(known.spec.id)
            await self.remove_sandbox(known.spec.id)
        if wanted.cgroup_parent:
            self.cgroups.set(wanted.cgroup_parent.strip("/"), wanted.cgroup_resources)
        request = {"config": convert.sandbox(wanted), "runtime_handler": wanted.handler}
        answer = await self._call("RunPodSandbox", request, timeout=_TIMEOUT * 2)
        self._ids[wanted.id] = answer["pod_sandbox_id"]
        return await self._sandbox(answer["pod_sandbox_id"])

    async def _sandbox(self, id: str) -> SandboxStatus:
        answer = await self._call("PodSandboxStatus", {"pod_sandbox_id": id, "verbose": True})
        found = self._sandbox_status(answer["status"])
        network = answer["status"]["network"]
        ips = [network["ip"], *(one["ip"] for one in network["additional_ips"])] if network else []
        pid = _pid(answer["info"])
        namespace = f"/proc/{pid}/ns/net" if pid else ""
        return replace(found, ips=tuple(filter(None, ips)), pid=pid, network_namespace=namespace)

    def _sandbox_status(self, message: Mapping[str, Any]) -> SandboxStatus:
        known = convert.read_spec(message["annotations"])
        wanted = spec.sandbox(known) if known is not None else SandboxSpec(message["id"], labels=message["labels"])
        self._ids[wanted.id] = message["id"]
        self._specs[message["id"]] = wanted
        state = State.RUNNING if message["state"] == protocol.READY else State.EXITED
        return SandboxStatus(replace(wanted, id=message["id"]), state, created_at=message["created_at"] / 1e9)

    async def _list_sandboxes(self, labels: Mapping[str, str]) -> list[SandboxStatus]:
        answer = await self._call("ListPodSandbox", {"filter": {"label_selector": labels}})
        return [self._sandbox_status(one) for one in answer["items"]]

    async def sandboxes(self) -> Sequence[SandboxStatus]:
        """Those that were made through this seam, with their addresses."""
        ids = [one.spec.id for one in await self._list_sandboxes({})]
        return [await self._sandbox(id) for id in ids if self._specs[id].id != id]  # others have no ID of a caller's

    async def remove_sandbox(self, id: str) -> None:
        """With all that is in it; its cgroup, too. Harmless if it is gone."""
        real = self._real(id)
        try:
            await self._call("StopPodSandbox", {"pod_sandbox_id": real})
            await self._call("RemovePodSandbox", {"pod_sandbox_id": real})
        except NoSuchContainer:
            pass
        gone = self._specs.pop(real, None)
        if gone is not None:
            self._ids.pop(gone.id, None)
            others = {one.cgroup_parent for one in self._specs.values()}
            if gone.cgroup_parent and gone.cgroup_parent not in others:
                await asyncio.to_thread(self.cgroups.remove, gone.cgroup_parent.strip("/"))

    def _real(self, id: str) -> str:
        return self._ids.get(id, id)

    # containers

    async def create_container(self, wanted: ContainerSpec) -> None:
        """In place of one of the same ID, which a caller that was killed left. Raises InvalidSpec, RuntimeFailure."""
        box = self._real(wanted.sandbox)
        if box not in self._specs:
            await self._sandbox(box)
        for left in await self._list_containers({"label_selector": {convert.ID: wanted.id}}):
            await self.remove_container(left["id"])
        target = self._real(wanted.pid_of) if wanted.pid_of else ""
        if wanted.log_path:
            os.makedirs(os.path.dirname(wanted.log_path), exist_ok=True)
        request = {
            "pod_sandbox_id": box,
            "config": convert.container(wanted, self._specs[box], target),
            "sandbox_config": convert.sandbox(self._specs[box]),
        }
        answer = await self._call("CreateContainer", request, timeout=_TIMEOUT * 2)
        self._ids[wanted.id] = answer["container_id"]
        self._boxes[answer["container_id"]] = box

    async def start_container(self, id: str) -> ContainerStatus:
        """Raises RuntimeFailure with the runtime's words."""
        await self._call("StartContainer", {"container_id": self._real(id)})
        return await self.container(id)

    async def stop_container(self, id: str, grace: float) -> ContainerStatus:
        """The stop signal, SIGKILL after `grace` seconds."""
        seconds = max(0, round(grace))
        await self._call("StopContainer", {"container_id": self._real(id), "timeout": seconds}, _TIMEOUT + seconds)
        return await self.container(id)

    async def signal_container(self, id: str, signal: int) -> None:
        """To its first process."""
        pid = (await self._running(id))[1]
        try:
            os.kill(pid, signal)
        except ProcessLookupError as error:
            raise RuntimeFailure(f"container {id} is not running") from error

    async def remove_container(self, id: str) -> None:
        """Harmless if it is gone."""
        real = self._real(id)
        try:
            await self._call("StopContainer", {"container_id": real, "timeout": 0})
            await self._call("RemoveContainer", {"container_id": real})
        except NoSuchContainer:
            pass
        self._boxes.pop(real, None)
        for own in [own for own, known in self._ids.items() if known == real]:
            del self._ids[own]

    async def container(self, id: str) -> ContainerStatus:
        """Raises NoSuchContainer."""
        return (await self._look(id))[0]

    async def _look(self, id: str) -> tuple[ContainerStatus, int]:
        """(status, pid)"""
        answer = await self._call("ContainerStatus", {"container_id": self._real(id), "verbose": True})
        found = convert.status(answer["status"], self.name)
        pid = _pid(answer["info"]) if found.state is State.RUNNING else 0
        box = self._boxes.get(found.spec.id) or self._real(found.spec.sandbox)
        return replace(found, pid=pid, spec=replace(found.spec, sandbox=box)), pid

    async def _running(self, id: str) -> tuple[ContainerStatus, int]:
        found, pid = await self._look(id)
        if found.state is not State.RUNNING or not pid:
            raise RuntimeFailure(f"container {id} is not running")
        return found, pid

    async def _list_containers(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._call("ListContainers", {"filter": wanted}))["containers"]
        for one in found:
            self._boxes[one["id"]] = one["pod_sandbox_id"]
            if own := one["labels"].get(convert.ID):
                self._ids[own] = one["id"]
        return found

    async def containers(self) -> Sequence[ContainerStatus]:
        """Those that were made through this seam."""
        found = []
        for one in await self._list_containers({}):
            if convert.ID in one["labels"]:
                try:
                    found.append(await self.container(one["id"]))
                except NoSuchContainer:
                    continue
        return found

    async def _rotate_logs(self) -> None:
        while True:
            await self._clock.sleep(rotation.INTERVAL)
            try:
                for one in rotation.due(await self.containers()):
                    await self._rotate(one.spec.id, one.spec.log_path, one.spec.log_max_files)
            except (RuntimeFailure, OSError) as error:
                log.warning("logs are not rotated: %s", error)

    async def _rotate(self, id: str, path: str, keep: int) -> None:
        rotation.shift(path, keep)
        try:
            await self.reopen_log(id)
        except RuntimeFailure:
            rotation.unshift(path)
            raise

    # events

    async def events(self) -> AsyncIterator[ContainerEvent]:
        """From listings, whenever the runtime says that something happened, else once a second."""
        told = asyncio.Event()
        tells = asyncio.Event()
        tells.set()
        self._spawn(self._follow_events(told, tells))
        before = await self._states()
        while True:
            if tells.is_set():
                await told.wait()
                told.clear()
            else:
                await self._clock.sleep(RELIST)
            now = await self._states()
            for (box, id), state in now.items():
                if before.get((box, id)) is not state:
                    yield ContainerEvent(box, id, state)
            for box, id in set(before) - set(now):  # whoever looks finds that it has gone
                yield ContainerEvent(box, id, State.EXITED)
            before = now

    async def _follow_events(self, told: asyncio.Event, tells: asyncio.Event) -> None:
        try:
            await self._channel.follow(protocol.EVENTS, {}, lambda message: told.set())
        except RpcError:
            pass
        finally:
            tells.clear()
            told.set()

    async def _states(self) -> dict[tuple[str, str], State]:
        found = {(one.spec.id, ""): one.state for one in await self._list_sandboxes({})}
        for one in await self._list_containers({}):
            found[one["pod_sandbox_id"], one["id"]] = convert.state(one["state"])
        return found

    # inside

    async def exec(self, id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> CriSession:
        """By the runtime's streaming server."""
        request = {
            "container_id": self._real(id),
            "cmd": list(argv),
            "tty": tty,
            "stdin": stdin,
            "stdout": True,
            "stderr": not tty,
        }
        return await self._session((await self._call("Exec", request))["url"], tty, stdin)

    async def attach(self, id: str) -> CriSession:
        found = await self.container(id)
        tty, stdin = found.spec.tty, found.spec.stdin
        request = {"container_id": self._real(id), "tty": tty, "stdin": stdin, "stdout": True, "stderr": not tty}
        return await self._session((await self._call("Attach", request))["url"], tty, stdin, attached=True)

    async def _session(self, url: str, tty: bool, stdin: bool, *, attached: bool = False) -> CriSession:
        session = CriSession(await connect(url, PROTOCOL), tty, stdin, lost=0 if attached else 137)
        self._spawn(session.run())
        return session

    async def exec_sync(self, id: str, argv: Sequence[str], timeout: float) -> ExecResult:
        """Killed by the runtime after `timeout` seconds."""
        request = {"container_id": self._real(id), "cmd": list(argv), "timeout": round(timeout)}
        try:
            answer = await self._channel.call(
                protocol.RUNTIME["ExecSync"], request, timeout=timeout + _TIMEOUT if timeout else None
            )
        except RpcError as error:
            if error.code is Code.DEADLINE_EXCEEDED:
                return ExecResult(137, b"", b"", timed_out=True)
            if error.code is Code.NOT_FOUND:
                raise NoSuchContainer(str(error)) from error
            return ExecResult(126, b"", str(error).encode())
        return ExecResult(answer["exit_code"], answer["stdout"][:_LONGEST_OUTPUT], answer["stderr"][:_LONGEST_OUTPUT])

    async def dial(self, sandbox: str, port: int) -> Duplex:
        """By port-forward of the runtime's."""
        request = {"pod_sandbox_id": self._real(sandbox), "port": [port]}
        connection = await connect((await self._call("PortForward", request))["url"], FORWARD)
        self._spawn(connection.run())
        return await forward(connection, port)

    # use

    async def usage(self, id: str) -> Usage:
        """From its cgroup."""
        found, _ = await self._running(id)
        return usage.measure(self._layout, self._cgroup(found))

    def _cgroup(self, found: ContainerStatus) -> str:
        box = self._specs.get(found.spec.sandbox)
        parent = box.cgroup_parent.strip("/") if box is not None else ""
        return f"{parent}/{found.spec.id}" if parent else found.spec.id

    async def processes(self, id: str) -> Processes:
        """From /proc."""
        found, pid = await self._running(id)
        return await asyncio.to_thread(usage.processes, self._layout, self._cgroup(found), pid)

    async def disk_usage(self, id: str) -> DiskUsage:
        """As the runtime tells."""
        stats = (await self._call("ContainerStats", {"container_id": self._real(id)}))["stats"]
        layer = (stats or {"writable_layer": None})["writable_layer"]
        if layer is None:
            return DiskUsage()
        return DiskUsage(_count(layer["used_bytes"]), _count(layer["inodes_used"]))

    async def sandbox_usage(self, id: str) -> SandboxUsage:
        """Of its cgroup and its network."""
        found = await self._sandbox(self._real(id))
        if found.state is not State.RUNNING:
            raise RuntimeFailure(f"sandbox {id} is not running")
        used = usage.measure(self._layout, found.spec.cgroup_parent.strip("/"))
        own = found.spec.network != "host" and found.pid
        return SandboxUsage(used, usage.interfaces(found.pid) if own else ())

    async def update(self, id: str, resources: Resources, labels: Mapping[str, str] | None = None) -> None:
        """Limits only: a CRI runtime keeps labels as they were made."""
        found, _ = await self._running(id)
        wanted = convert.resources(merged(found.spec.resources, resources))
        await self._call("UpdateContainerResources", {"container_id": found.spec.id, "linux": wanted})

    async def reopen_log(self, id: str) -> None:
        """After its file was renamed."""
        await self._call("ReopenContainerLog", {"container_id": self._real(id)})


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """A session that breaks must not end those beside it."""
    try:
        await work
    except Exception:  # the boundary of what runs by itself
        log.exception("work with the runtime failed")


_PARTS = {"NetworkReady": "network "}


def _pid(info: Mapping[str, str]) -> int:
    """From the verbose information."""
    try:
        return int(json.loads(info.get("info", "{}")).get("pid") or 0)
    except (ValueError, TypeError):
        return 0


def _count(message: Mapping[str, Any] | None) -> int:
    return int(message["value"]) if message is not None else 0
