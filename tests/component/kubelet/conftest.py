"""A kubelet on the virtual clock, between an API and a runtime that live in memory."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import AlreadyExists, Conflict, NotFound
from tiphys.base.http.types import Duplex
from tiphys.client.types import Listing, Object, Resource, WatchEvent
from tiphys.kubelet.app import Kubelet
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.isolation import Guard
from tiphys.kubelet.probes.prober import Result, Target
from tiphys.runtime import measures
from tiphys.runtime import types as rt
from tiphys.runtime.containers import merged
from tiphys.testing.cgroups import FakeCgroups
from tiphys.testing.clock import VirtualClock
from tiphys.testing.machine import FakeMachine

PODS = Resource("", "v1", "pods")


class MemoryApi:
    """A `Client` whose objects are in a dict; no validation, no defaults."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.revision = 0
        self.log: list[tuple[str, str, Any]] = []
        self._watchers: list[tuple[str, str, str, asyncio.Queue[WatchEvent]]] = []
        self._history: defaultdict[str, deque[tuple[int, WatchEvent]]] = defaultdict(lambda: deque(maxlen=1000))
        self.broken = False

    def _changed(self, type: str, plural: str, obj: dict[str, Any]) -> None:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self._history[plural].append((self.revision, WatchEvent(type, copy.deepcopy(obj))))
        for wanted, namespace, fields, queue in self._watchers:
            if wanted == plural and self._fits(obj, namespace, fields):
                queue.put_nowait(WatchEvent(type, copy.deepcopy(obj)))

    @staticmethod
    def _fits(obj: Object, namespace: str, fields: str) -> bool:
        if namespace and obj["metadata"].get("namespace") != namespace:
            return False
        for field in filter(None, fields.split(",")):
            path, _, value = field.partition("=")
            found: Any = obj
            for part in path.split("."):
                found = (found or {}).get(part)
            if found != value:
                return False
        return True

    def _find(self, resource: Resource, name: str, namespace: str) -> dict[str, Any]:
        if self.broken:
            raise ConnectionError("the API server is gone")
        try:
            return self.objects[resource.plural, namespace, name]
        except KeyError:
            raise NotFound(f'{resource.plural} "{name}" not found') from None

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        return copy.deepcopy(self._find(resource, name, namespace))

    async def list(self, resource: Resource, namespace: str = "", **options: Any) -> Listing:
        if self.broken:
            raise ConnectionError("the API server is gone")
        fields = options.get("fields", "")
        items = [
            copy.deepcopy(obj)
            for (plural, _, _), obj in self.objects.items()
            if plural == resource.plural and self._fits(obj, namespace, fields)
        ]
        return Listing(tuple(items), str(self.revision))

    async def watch(self, resource: Resource, namespace: str = "", **options: Any) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (resource.plural, namespace, options.get("fields", ""), queue)
        for revision, event in self._history[resource.plural]:
            since = int(options.get("resource_version") or self.revision)
            if revision > since and self._fits(event.object, namespace, entry[2]):
                queue.put_nowait(event)
        self._watchers.append(entry)
        try:
            async with asyncio.timeout(options.get("timeout")):
                while True:
                    yield await queue.get()
        except TimeoutError:
            return
        finally:
            self._watchers.remove(entry)

    def watched(self, plural: str) -> int:
        """How many watches of a resource are open."""
        return sum(1 for wanted, *_ in self._watchers if wanted == plural)

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        if self.broken:
            raise ConnectionError("the API server is gone")
        if subresource == "token":
            expiry = rfc3339(self.clock.time() + obj["spec"]["expirationSeconds"])
            self.log.append(("token", name, obj["spec"]))
            return {**obj, "status": {"token": f"token-{len(self.log)}", "expirationTimestamp": expiry}}
        made = copy.deepcopy(dict(obj))
        meta = made["metadata"] = dict(made["metadata"])
        if namespace:
            meta.setdefault("namespace", namespace)
        meta.setdefault("uid", f"uid-{len(self.objects)}")
        key = (resource.plural, meta.get("namespace", ""), meta["name"])
        if key in self.objects:
            raise AlreadyExists(f'{resource.plural} "{meta["name"]}" already exists')
        self.objects[key] = made
        self._changed("ADDED", resource.plural, made)
        return copy.deepcopy(made)

    async def update(self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "") -> Object:
        found = self._find(resource, obj["metadata"]["name"], namespace or obj["metadata"].get("namespace", ""))
        found.update(copy.deepcopy(dict(obj)))
        self._changed("MODIFIED", resource.plural, found)
        return copy.deepcopy(found)

    async def patch(self, resource: Resource, name: str, patch: Any, namespace: str = "", **options: Any) -> Object:
        found = self._find(resource, name, namespace)
        if (uid := patch.get("metadata", {}).get("uid")) and uid != found["metadata"]["uid"]:
            raise Conflict("the UID differs")
        self.log.append(("patch", f"{resource.plural}/{name}", copy.deepcopy(patch)))
        _merge(found, patch)
        self._changed("MODIFIED", resource.plural, found)
        return copy.deepcopy(found)

    async def delete(self, resource: Resource, name: str, namespace: str = "", **options: Any) -> Object:
        found = self._find(resource, name, namespace)
        if options.get("uid") and options["uid"] != found["metadata"]["uid"]:
            raise Conflict("the UID differs")
        grace = options.get("grace_seconds")
        if resource.plural == "pods" and grace != 0:
            meta = found["metadata"]
            meta["deletionGracePeriodSeconds"] = found["spec"].get("terminationGracePeriodSeconds", 30)
            if grace is not None:
                meta["deletionGracePeriodSeconds"] = grace
            meta["deletionTimestamp"] = rfc3339(self.clock.time() + meta["deletionGracePeriodSeconds"])
            self._changed("MODIFIED", resource.plural, found)
            return found
        del self.objects[resource.plural, namespace, name]
        self._changed("DELETED", resource.plural, found)
        return found

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        return


_KEYS = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip", "addresses": "type"}


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, list) and {"$patch": "replace"} in value:
            target[name] = [entry for entry in value if "$patch" not in entry]
        elif name in _KEYS and isinstance(value, list):
            key = _KEYS[name]
            entries = {entry[key]: entry for entry in target.get(name) or []}
            for entry in value:
                if entry.get("$patch") == "delete":
                    entries.pop(entry[key], None)
                else:
                    _merge(entries.setdefault(entry[key], {}), entry)
            target[name] = list(entries.values())
        elif isinstance(value, Mapping) and name in ("status", "metadata", "labels"):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = copy.deepcopy(value)


class MemoryImages:
    """Every image is present, but those named in `missing`."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.broken: dict[str, str] = {}
        self.pulls: list[str] = []
        self.config = rt.ImageConfig(entrypoint=("/bin/sh",), user="")
        self.shown: list[rt.Image] = []
        self.changed = asyncio.Event()

    def _image(self, name: str) -> rt.Image:
        return rt.Image(f"sha256:{name}", (f"docker.io/library/{name}:latest",), (), 1000, self.config)

    async def get(self, reference: str) -> rt.Image | None:
        name = reference.removeprefix("sha256:")
        return None if name in self.missing else self._image(name)

    async def pull(self, reference: str, credentials: Sequence[rt.Credential] = ()) -> rt.Image:
        self.pulls.append(reference)
        if reference in self.broken:
            raise rt.NoSuchImage(self.broken[reference])
        self.missing.discard(reference)
        return self._image(reference)

    async def list(self) -> Sequence[rt.Image]:
        return self.shown

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self.changed.wait()
            self.changed.clear()
            yield

    async def load(self, path: str) -> Sequence[rt.Image]:
        return []

    async def remove(self, reference: str) -> None:
        return


class MemoryRuntime:
    """A `Runtime` without processes: containers run until told to exit."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.images: Any = MemoryImages()
        self.cgroups: Any = FakeCgroups()
        self.used = measures.Usage(0, 0, 0)
        self.networks: tuple[str, ...] = ("10.1.0.",)
        """What pods' addresses begin with, one for each family."""
        self.boxes: dict[str, rt.SandboxStatus] = {}
        self.runs: dict[str, rt.ContainerStatus] = {}
        self.log: list[str] = []
        self.exec_results: dict[str, rt.ExecResult] = {}
        self.ignores_signals: set[str] = set()
        self.fails_to_start: dict[str, str] = {}
        self.on_start: dict[str, Callable[[str], Awaitable[None] | None]] = {}
        self._listeners: list[asyncio.Queue[rt.ContainerEvent]] = []

    async def info(self) -> rt.RuntimeInfo:
        return rt.RuntimeInfo("memory", "1", (rt.RuntimeHandler(""), rt.RuntimeHandler("runc")))

    @staticmethod
    def name(status: rt.ContainerStatus | rt.ContainerSpec) -> str:
        spec = status.spec if isinstance(status, rt.ContainerStatus) else status
        return spec.labels["io.kubernetes.container.name"]

    def by_name(self, name: str) -> rt.ContainerStatus:
        """The newest container of that name."""
        found = [run for run in self.runs.values() if self.name(run) == name]
        return max(found, key=lambda run: int(run.spec.labels["io.kubernetes.container.restartCount"]))

    def exit(self, name: str, code: int = 0, **more: Any) -> None:
        """The container's process ends."""
        run = self.by_name(name)
        self._ended(run.spec.id, code, **more)

    def _ended(self, id: str, code: int, **more: Any) -> None:
        run = self.runs[id]
        self.runs[id] = replace(
            run, state=rt.State.EXITED, exit_code=code, finished_at=self.clock.time(), pid=0, **more
        )
        self.log.append(f"exit {self.name(run)} {code}")
        self._tell(rt.ContainerEvent(run.spec.sandbox, id, rt.State.EXITED, code))

    def _tell(self, event: rt.ContainerEvent) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)

    async def create_sandbox(self, spec: rt.SandboxSpec) -> rt.SandboxStatus:
        self.cgroups.set(spec.cgroup_parent, spec.cgroup_resources)
        if spec.id not in self.boxes:
            ips = tuple(f"{network}{len(self.boxes) + 2}" for network in self.networks)
            self.boxes[spec.id] = rt.SandboxStatus(spec, rt.State.RUNNING, ips, self.clock.time())
            self.log.append("sandbox")
        return self.boxes[spec.id]

    async def sandboxes(self) -> Sequence[rt.SandboxStatus]:
        return list(self.boxes.values())

    async def remove_sandbox(self, id: str) -> None:
        self.boxes.pop(id, None)
        self.log.append("remove sandbox")

    def kill_sandbox(self) -> None:
        """The pause process dies."""
        for id, box in self.boxes.items():
            self.boxes[id] = replace(box, state=rt.State.EXITED)
            self._tell(rt.ContainerEvent(id, "", rt.State.EXITED, 137))

    async def create_container(self, spec: rt.ContainerSpec) -> None:
        self.runs[spec.id] = rt.ContainerStatus(spec, rt.State.CREATED, self.clock.time())

    async def start_container(self, id: str) -> rt.ContainerStatus:
        name = self.name(self.runs[id])
        if name in self.fails_to_start:
            why = self.fails_to_start[name]
            self._ended(id, 128, error=why)
            raise rt.RuntimeFailure(why)
        now = self.clock.time()
        self.runs[id] = replace(self.runs[id], state=rt.State.RUNNING, started_at=now, pid=1)
        self.log.append(f"start {name}")
        return self.runs[id]

    async def stop_container(self, id: str, grace: float) -> rt.ContainerStatus:
        run = self.runs[id]
        name = self.name(run)
        self.log.append(f"stop {name} {grace:g}")
        if run.state is rt.State.RUNNING:
            if name in self.ignores_signals:
                await self.clock.sleep(grace)
            if self.runs[id].state is rt.State.RUNNING:
                self._ended(id, 137 if name in self.ignores_signals else 0)
        return self.runs[id]

    async def signal_container(self, id: str, signal: int) -> None:
        return

    async def remove_container(self, id: str) -> None:
        self.runs.pop(id, None)

    async def container(self, id: str) -> rt.ContainerStatus:
        if id not in self.runs:
            raise rt.NoSuchContainer(id)
        return self.runs[id]

    async def containers(self) -> Sequence[rt.ContainerStatus]:
        return list(self.runs.values())

    async def events(self) -> AsyncIterator[rt.ContainerEvent]:
        queue: asyncio.Queue[rt.ContainerEvent] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def exec_sync(self, id: str, argv: Sequence[str], timeout: float) -> rt.ExecResult:
        self.log.append(f"exec {' '.join(argv)}")
        return self.exec_results.get(" ".join(argv), rt.ExecResult(0, b"", b""))

    async def exec(self, id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> rt.Session:
        raise NotImplementedError

    async def attach(self, id: str) -> rt.Session:
        raise NotImplementedError

    async def dial(self, sandbox: str, port: int) -> Duplex:
        raise NotImplementedError

    async def usage(self, id: str) -> measures.Usage:
        return self.used

    async def processes(self, id: str) -> measures.Processes:
        return measures.Processes(1, 3, 1, 1024)

    async def disk_usage(self, id: str) -> measures.DiskUsage:
        return measures.DiskUsage(8192, 2)

    async def sandbox_usage(self, id: str) -> measures.SandboxUsage:
        return measures.SandboxUsage(self.used, (measures.Interface("eth0", 100, 1, 0, 0, 200, 2),))

    async def update(self, id: str, resources: rt.Resources, labels: Mapping[str, str] | None = None) -> None:
        old = self.runs[id].spec
        spec = replace(old, resources=merged(old.resources, resources), labels={**old.labels, **(labels or {})})
        self.runs[id] = replace(self.runs[id], spec=spec)
        self.log.append(f"update {self.name(spec)}")

    async def close(self) -> None:
        return


class Node:
    """A kubelet with its surroundings; `async with node.running():` runs it."""

    def __init__(self, root: Path, clock: VirtualClock) -> None:
        self.clock = clock
        self.root = root
        self.api = MemoryApi(clock)
        self.runtime = MemoryRuntime(clock)
        self.machine = FakeMachine()
        self.probes: dict[str, Result] = {}
        self.guard: Guard | None = None
        self.config = KubeletConfig(
            node_name="node-1",
            root_dir=root / "kubelet",
            node_ips=("10.0.0.1",),
            log_dir=root / "log/pods",
            container_log_dir=root / "log/containers",
            userns_claims=root / "userns",
            serve_api=False,
            cluster_dns=("10.96.0.10",),
            memory_volumes=False,
            capacity={"cpu": "4", "memory": "8Gi"},
        )

    async def probe(self, probe: Mapping[str, Any], target: Target) -> Result:
        return self.probes.get(target.container["name"], Result(True))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Kubelet]:
        self.kubelet = Kubelet(
            self.config, self.api, self.runtime, self.clock, prober=self, meter=self.machine, guard=self.guard
        )
        task = asyncio.get_running_loop().create_task(self.kubelet.run())
        try:
            await asyncio.wait_for(self.kubelet.started.wait(), 60)
            yield self.kubelet
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]  # checked above

    async def create(self, pod: Object) -> None:
        await self.api.create(PODS, pod, "default")

    def pod(self, name: str = "web") -> dict[str, Any]:
        return self.api.objects["pods", "default", name]

    def status(self, name: str = "web", container: str = "") -> dict[str, Any]:
        status: dict[str, Any] = self.pod(name).get("status") or {}
        if not container:
            return status
        kinds = ("containerStatuses", "initContainerStatuses")
        return next(entry for kind in kinds for entry in status.get(kind) or () if entry["name"] == container)

    def gone(self, name: str = "web") -> bool:
        return ("pods", "default", name) not in self.api.objects

    def events(self, reason: str = "") -> list[str]:
        """Messages of the events about pods, oldest first."""
        return [
            event["message"]
            for (plural, _, _), event in self.api.objects.items()
            if plural == "events" and event["involvedObject"]["kind"] == "Pod" and reason in ("", event["reason"])
        ]

    async def until(self, condition: Callable[[], Any], limit: float = 3600.0) -> float:
        """Virtual seconds until `condition` holds."""
        started = self.clock.monotonic()
        while not _holds(condition):
            assert self.clock.monotonic() - started < limit, "it did not come about"
            await self.clock.sleep(0.01)
        return self.clock.monotonic() - started

    def is_phase(self, phase: str, name: str = "web") -> Callable[[], bool]:
        return lambda: self.status(name).get("phase") == phase


def _holds(condition: Callable[[], Any]) -> bool:
    try:
        return bool(condition())
    except (KeyError, StopIteration):
        return False


def make_pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A pod bound to the node, as the API server would have defaulted it."""
    container = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent"}
    whole = {
        "nodeName": "node-1",
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "containers": [container],
        **spec,
    }
    for kind in ("containers", "initContainers"):
        whole[kind] = [{**container, **one} for one in whole.get(kind) or ()]
    meta = {"name": name, "namespace": "default", "uid": f"{name}-uid", "generation": 1, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": whole, "status": {"phase": "Pending"}}


@pytest.fixture
def pod() -> Callable[..., dict[str, Any]]:
    return make_pod


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, VirtualClock())
