"""The device manager: plugins register with it, pods get their devices from it.

    manager = DeviceManager(root_dir, clock, active)      active() -> UIDs of pods that count; None: not known yet
    await manager.run()                                   until cancelled; plugins are told to register again

A resource whose plugin is gone stays known for five minutes, all its devices unhealthy; containers that hold some go
on. Nothing is loaded and nothing but one socket exists while no plugin has registered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.files import write_json
from tiphys.base.grpc.server import UnixServer
from tiphys.base.grpc.types import Code, RpcError
from tiphys.kubelet.devices import protocol
from tiphys.kubelet.devices.endpoint import Endpoint
from tiphys.kubelet.devices.grants import Grants, merge
from tiphys.kubelet.devices.hints import Hint, hints_of
from tiphys.kubelet.devices.ledger import Held, Ledger
from tiphys.kubelet.devices.pool import AllocationError, Device, Pool, Want, asked, begin, check, finish
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, init_containers, is_sidecar, main_containers, uid_of

log = logging.getLogger(__name__)

GRACE_PERIOD = 300.0
"""Seconds that a resource outlives its plugin."""
_RESOURCES = "resources.json"
_NAME = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?")


def is_extended(name: str) -> bool:
    """Whether a resource name is outside Kubernetes' own domain and well formed."""
    return "kubernetes.io/" not in name and not name.startswith("requests.") and bool(_NAME.fullmatch(name))


class DeviceManager:
    """See the module's docstring. `changed(uids)` is called when resources or the health of pods' devices change."""

    def __init__(
        self,
        root_dir: Path,
        clock: Clock,
        active: Callable[[], Iterable[str] | None],
        changed: Callable[[set[str]], None] = lambda uids: None,
        affinity: Callable[[str, str], frozenset[int] | None] = lambda uid, container: None,
        metrics: KubeletMetrics | None = None,
    ) -> None:
        self._metrics = metrics
        self.directory = root_dir / "device-plugins"
        self.ledger = Ledger(root_dir / "pods")
        self._clock = clock
        self._active = active
        self._changed = changed
        self._affinity = affinity
        self._pools: dict[str, Pool] = {name: Pool(name) for name in self._known()}
        self._gone: set[str] = set()
        """Resources whose grace period is over: their capacity is zero."""
        self._endpoints: dict[str, Endpoint] = {}
        self._lock = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled. A socket that cannot be had is said in the log: the node goes on without plugins."""
        server = UnixServer(self.directory / "kubelet.sock", {protocol.REGISTRATION: self._register}, mode=0o755)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for name in self._pools:
                    group.create_task(self._expire(name, None), name=f"device plugin {name}")
                try:
                    self._clean_directory()
                    await server.run()
                except OSError as error:  # within the group, which would wrap it
                    log.warning("device plugins cannot register: %s", error)
        finally:
            self._group = None
            for endpoint in self._endpoints.values():
                endpoint.close()

    def _clean_directory(self) -> None:
        """Plugins see the removal of their sockets and register again."""
        self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        for entry in self.directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(entry.lstat().st_mode):
                    entry.unlink()

    def _known(self) -> list[str]:
        """Resources that were registered before: at zero until their plugins are back."""
        try:
            return [str(name) for name in json.loads((self.directory / _RESOURCES).read_text())]
        except (OSError, ValueError):
            return []

    def _save_known(self) -> None:
        try:
            write_json(self.directory / _RESOURCES, sorted(set(self._pools) - self._gone))
        except OSError as error:
            log.warning("names of registered resources cannot be kept: %s", error)

    # --- plugins

    async def _register(self, request: dict[str, Any]) -> Mapping[str, Any]:
        version, resource = request["version"], request["resource_name"]
        if self._metrics is not None:
            self._metrics.device_registrations.inc(resource)
        if version != protocol.VERSION:
            supported = f'Supported version is ["{protocol.VERSION}"]'
            raise RpcError(Code.UNKNOWN, f'requested API version "{version}" is not supported by kubelet. {supported}')
        if not is_extended(resource):
            raise RpcError(Code.UNKNOWN, f'the ResourceName "{resource}" is invalid')
        try:
            await self.connect(resource, str(self.directory / request["endpoint"]))
        except AllocationError as error:
            raise RpcError(Code.UNKNOWN, str(error)) from error
        return {}

    async def connect(self, resource: str, path: str) -> None:
        """Take up the plugin of `resource` that listens at `path`. Raises AllocationError."""
        endpoint = Endpoint(resource, path)
        await endpoint.connect()
        if self._group is None:
            endpoint.close()
            raise AllocationError("device plugins are not served by this node")
        before = self._endpoints.pop(resource, None)
        self._endpoints[resource] = endpoint
        if before is not None:
            before.close()
        log.info("device plugin for %s registered", resource)
        self._group.create_task(self._follow(endpoint), name=f"device plugin {resource}")

    def disconnect(self, resource: str, path: str) -> None:
        """The plugin has taken back its registration."""
        endpoint = self._endpoints.get(resource)
        if endpoint is not None and endpoint.path == path:
            endpoint.close()

    async def _follow(self, endpoint: Endpoint) -> None:
        """Take its lists until it ends, then let the resource expire."""
        name = endpoint.resource
        try:
            await endpoint.follow(lambda devices: self._take(endpoint, devices))
        except RpcError as error:
            log.info("device plugin for %s ended: %s", name, error)
        endpoint.close()
        if self._endpoints.get(name) is not endpoint:
            return
        if (pool := self._pools.get(name)) is not None:
            self._changed(self._holders(name, pool.fail()))
        await self._expire(name, endpoint)

    def _take(self, endpoint: Endpoint, devices: list[Device]) -> None:
        name = endpoint.resource
        if self._endpoints.get(name) is not endpoint:
            return
        fresh = name not in self._pools or name in self._gone
        pool = self._pools.setdefault(name, Pool(name))
        self._gone.discard(name)
        touched = pool.replace(devices)
        if fresh:
            self._save_known()
        self._changed(self._holders(name, touched))

    async def _expire(self, name: str, endpoint: Endpoint | None) -> None:
        await self._clock.sleep(GRACE_PERIOD)
        if self._endpoints.get(name) is endpoint:
            self._endpoints.pop(name, None)
            self._pools.pop(name, None)
            self._gone.add(name)
            self._save_known()
            self._changed(set())

    def _holders(self, resource: str, ids: set[str]) -> set[str]:
        return {
            uid
            for uid in self.ledger.pods()
            for _, name, held in self.ledger.entries(uid)
            if name == resource and ids & set(held.devices)
        }

    # --- the node

    def capacity(self) -> dict[str, tuple[int, int]]:
        """(capacity, allocatable) by resource; zeros for those whose plugin is gone for good."""
        found = {name: (len(pool.devices), len(pool.healthy)) for name, pool in self._pools.items()}
        return dict.fromkeys(self._gone, (0, 0)) | found

    def allocated(self) -> dict[str, int]:
        """Devices held by pods: the node's allocatable counts as no less when a pod is admitted."""
        self.free_finished()
        return {name: len(self.ledger.in_use(name)) for name in self.ledger.resources()}

    def pool(self, resource: str) -> Pool | None:
        return self._pools.get(resource)

    def pools(self) -> Mapping[str, Pool]:
        return self._pools

    # --- pods

    def wants(self, pod: Object) -> bool:
        """Whether any container asks for what plugins give."""
        known = self._resources()
        return any(True for container in _containers(pod) for _ in asked(pod, container, known))

    def _resources(self) -> set[str]:
        return set(self._pools) | self.ledger.resources() if self._pools or self.ledger.pods() else set()

    def free_finished(self) -> None:
        """Devices of pods that have ended are free again."""
        if (known := self._active()) is None:
            return
        active = set(known)
        for uid in self.ledger.pods():
            if uid not in active:
                self.ledger.free(uid)

    async def allocate(self, pod: Object) -> None:
        """Devices for all containers of a pod, written down. Raises AllocationError."""
        async with self._lock:
            self.free_finished()
            held_before = self.ledger.has(uid_of(pod))
            reusable: dict[str, set[str]] = {}
            try:
                for container in _containers(pod):
                    await self._allocate(pod, container, reusable)
                    _pass_on(self.ledger.of(uid_of(pod), container["name"]), container, pod, reusable)
                self.ledger.save(uid_of(pod))
            except (TiphysError, OSError) as error:
                if not held_before:
                    self.ledger.free(uid_of(pod))
                raise AllocationError(str(error)) from error

    async def _allocate(self, pod: Object, container: Object, reusable: Mapping[str, set[str]]) -> None:
        uid, name = uid_of(pod), container["name"]
        for resource, required in asked(pod, container, self._resources()):
            held = self.ledger.of(uid, name).get(resource)
            if held is not None and len(held.devices) != required:
                change = f'request for resource "{resource}" from {len(held.devices)} to {required}'
                raise AllocationError(f'pod "{uid}" container "{name}" changed {change}')
            pool = check(self._pools.get(resource), resource, held.devices if held is not None else None)
            if held is None and required:
                reuse = frozenset(reusable.get(resource, ()))
                want = Want(required, reuse, self.ledger.in_use(resource), self._affinity(uid, name))
                self.ledger.note(uid, name, resource, await self._obtain(pool, want))

    async def _obtain(self, pool: Pool, want: Want) -> Held:
        endpoint = self._endpoints.get(pool.resource)
        if endpoint is None:
            raise AllocationError(f"unknown Device Plugin {pool.resource}")
        pick = begin(pool, want)
        preferred: list[str] = []
        if pick.missing:
            preferred = await endpoint.prefer(sorted(pick.available), pick.taken, want.required)
        ids = finish(pool, want, pick, preferred)
        began = self._clock.monotonic()
        try:
            answer = await endpoint.allocate(ids)
        finally:
            if self._metrics is not None:
                self._metrics.device_allocation.observe(self._clock.monotonic() - began, pool.resource)
        return Held({id: pool.nodes_of(id) for id in ids}, answer)

    async def grants(self, pod: Object, container: Object) -> Grants:
        """What a container that is about to start is to get. Raises AllocationError."""
        uid, name = uid_of(pod), container["name"]
        for resource, required in asked(pod, container, self._resources()):
            if required:
                await self._pre_start(uid, name, resource)
        held = self.ledger.of(uid, name)
        missing = [one for one, number in asked(pod, container, self._resources()) if number and one not in held]
        active = self._active()
        if missing and (active is None or uid in set(active)):
            await self.allocate(pod)
            held = self.ledger.of(uid, name)
        return merge(one.answer for one in held.values())

    async def _pre_start(self, uid: str, container: str, resource: str) -> None:
        endpoint = self._endpoints.get(resource)
        if endpoint is None or not endpoint.options.get("pre_start_required"):
            return
        held = self.ledger.of(uid, container).get(resource)
        if held is None:
            where = f"pod {uid}, container {container}, resource {resource}"
            raise AllocationError(f"no devices found allocated in local cache for {where}")
        await endpoint.pre_start(list(held.devices))

    def health(self, uid: str) -> dict[str, list[dict[str, Any]]]:
        """allocatedResourcesStatus by container."""
        found: dict[str, list[dict[str, Any]]] = {}
        for container, resource, held in self.ledger.entries(uid):
            pool = self._pools.get(resource) or Pool(resource)
            entries = [{"resourceID": id, "health": _health(pool, id)} for id in sorted(held.devices)]
            found.setdefault(container, []).append({"name": resource, "resources": entries})
        return found

    def hints(self, pod: Object, container: Object, machine: Iterable[int] = (0,)) -> dict[str, list[Hint] | None]:
        """For a topology manager, by resource; None: any place will do. `machine` has the NUMA nodes that there are."""
        self.free_finished()
        uid, found = uid_of(pod), {}
        nodes = tuple(machine)
        for resource, required in asked(pod, container, self._resources()):
            held = self.ledger.of(uid, container["name"]).get(resource)
            pool = self._pools.get(resource) or Pool(resource)
            own = held.devices if held is not None else ()
            found[resource] = hints_of(pool, required, self.ledger.in_use(resource), own, (), nodes)
        return found


def _containers(pod: Object) -> list[Object]:
    return [*init_containers(pod), *main_containers(pod)]


def _pass_on(held: Mapping[str, Held], container: Object, pod: Object, reusable: dict[str, set[str]]) -> None:
    """Devices of an init container that ends are for those after it; what others got is theirs alone."""
    ends = container in init_containers(pod) and not is_sidecar(container)
    for resource, one in held.items():
        spare = reusable.setdefault(resource, set())
        if ends:
            spare |= set(one.devices)
        else:
            spare -= set(one.devices)


def _health(pool: Pool, id: str) -> str:
    device = pool.devices.get(id)
    return "Unhealthy" if device is not None and not device.healthy else "Healthy"
