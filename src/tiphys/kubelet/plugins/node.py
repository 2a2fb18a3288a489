"""The plugins of one node, as the rest of the kubelet sees them: one object that app.py makes.

It admits pods that ask for devices, gives their containers what they hold, and puts it into statuses of nodes and pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiphys.api.quantity import from_units
from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.client.types import Client
from tiphys.kubelet import events as ev
from tiphys.kubelet.admission import Refusal
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.devices.grants import NOTHING, Grants
from tiphys.kubelet.devices.manager import DeviceManager, is_extended
from tiphys.kubelet.devices.pool import AllocationError
from tiphys.kubelet.devices.protocol import VERSION
from tiphys.kubelet.dra.claims import ClaimError
from tiphys.kubelet.dra.manager import ClaimManager
from tiphys.kubelet.managers.manager import Managers
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.node import NodeAgent
from tiphys.kubelet.plugins import cdi
from tiphys.kubelet.plugins.watcher import PluginWatcher
from tiphys.kubelet.podresources.server import PodResources
from tiphys.kubelet.podspec import Object, is_deleted, is_terminal, main_containers, uid_of
from tiphys.kubelet.resources import amounts
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import ContainerSpec

log = logging.getLogger(__name__)

_RETRY = 5.0
Workers = Callable[[], Iterable[PodWorker]]


class NodePlugins:
    """See the module's docstring."""

    def __init__(
        self,
        config: KubeletConfig,
        client: Client,
        clock: Clock,
        agent: NodeAgent,
        workers: Workers,
        managers: Managers,
        metrics: KubeletMetrics,
    ) -> None:
        self._config = config
        self._clock = clock
        self._agent = agent
        self._workers = workers
        self._reported = asyncio.Event()
        self._settled = False
        self.devices = DeviceManager(config.root_dir, clock, self._active, self._changed, managers.affinity, metrics)
        managers.register(lambda pod, container: self.devices.hints(pod, container, managers.policy.nodes))
        self.claims = ClaimManager(config.root_dir, config.node_name, client, clock, self._changed, metrics.registry)
        self.pod_resources = PodResources(
            config.root_dir, clock, self.devices, self._pods, self.claims.messages, managers, metrics.registry
        )
        self._watcher = PluginWatcher(
            config.root_dir / "plugins_registry",
            clock,
            {"DevicePlugin": DevicePlugins(self.devices), "DRAPlugin": self.claims.drivers},
        )
        self.resave: Callable[[PodWorker], None] = lambda worker: None
        """Has a pod's status written again, with what is known of its devices now."""
        agent.extend = self.extend

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.devices.run(), name="device plugins")
            group.create_task(self.pod_resources.run(), name="pod resources API")
            self.claims.start(group)
            group.create_task(self._watcher.run(), name="plugins")
            await self._report()

    async def _report(self) -> None:
        """The node's status at once when resources change."""
        while True:
            await self._reported.wait()
            self._reported.clear()
            try:
                await self._agent.report()
            except (ApiError, OSError) as error:
                log.info("devices changed, the next heartbeat tells it: %s", error)

    def _changed(self, uids: set[str]) -> None:
        self._reported.set()
        for worker in self._workers():
            if worker.uid in uids and worker.state.status:
                self.resave(worker)

    def _active(self) -> Iterable[str] | None:
        """None before all pods of the node are known: nothing may be taken from those that are not there yet."""
        if not self._settled:
            return None
        return [uid_of(pod) for pod in self._pods() if not is_terminal(pod)]

    def _pods(self) -> Iterable[Object]:
        return (worker.state.pod for worker in self._workers() if worker.state.rejection is None)

    # --- pods

    def wants(self, pod: Object, found: ev.Observed, fresh: bool) -> bool:
        """Whether plugins must be asked before the pod may run: when it is new, and after the machine was restarted."""
        if is_terminal(pod) or is_deleted(pod) or not self.devices.wants(pod):
            return False
        return fresh or (not any(record.running for record in found.containers) and _ran(pod))

    async def admit(self, pod: Object) -> Refusal | None:
        """Allocate; why not, or None."""
        try:
            await self.devices.allocate(pod)
        except AllocationError as error:
            return "UnexpectedAdmissionError", f"Allocate failed due to {error}, which is unexpected"
        return None

    async def grants(self, pod: Object, container: Object) -> Grants:
        """What a container that is about to start is to get. Raises AllocationError."""
        found = await self.devices.grants(pod, container) if self.devices.wants(pod) else NOTHING
        if not self.claims.wants(pod):
            return found
        return replace(found, cdi_devices=(*found.cdi_devices, *self.claims.cdi_devices(pod, container)))

    def apply(self, spec: ContainerSpec, grants: Grants, pod: Object) -> ContainerSpec:
        """A container's spec with what it is given. Raises CdiError, OSError."""
        spec = grants.apply(spec)
        if not grants.cdi_devices:
            return spec
        return cdi.apply(spec, cdi.find(grants.cdi_devices), self._config.pod_dir(uid_of(pod)) / "devices")

    async def prepare(self, pod: Object) -> None:
        """Before its sandbox is made. Raises ClaimError."""
        if self.claims.wants(pod):
            await self.claims.prepare(pod)

    async def release(self, uid: str) -> None:
        """The pod has ended, and so have its containers. Raises ClaimError."""
        await self.claims.unprepare(uid)

    async def release_strangers(self, known: Collection[str]) -> None:
        """All pods are known now. Claims of those that went while no kubelet ran: tries until they are free."""
        self._settled = True
        for uid in self.claims.ledger.pods() - set(known):
            while True:
                try:
                    await self.claims.unprepare(uid)
                except ClaimError as error:
                    log.info("claims of pod %s, which is gone: %s", uid, error)
                    await self._clock.sleep(_RETRY)
                else:
                    break

    def overlay(self, pod: Object, status: Mapping[str, Any]) -> Mapping[str, Any]:
        """A pod's status with the health of what its containers hold."""
        known = status.get("containerStatuses")
        if not known or not (self.claims.wants(pod) or self.devices.ledger.has(uid_of(pod))):
            return status
        health = self.devices.health(uid_of(pod))
        for container in main_containers(pod):
            if entries := self.claims.health(pod, container):
                health[container["name"]] = health.get(container["name"], []) + entries
        statuses = [
            {**one, "allocatedResourcesStatus": health[one["name"]]} if one["name"] in health else one for one in known
        ]
        return {**status, "containerStatuses": statuses}

    # --- the node

    def extend(self, status: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
        """The node's status with extended resources: those of plugins, and what others have put there."""
        own = self.devices.capacity()
        for place, key in enumerate(("capacity", "allocatable")):
            theirs = {name: value for name, value in (old.get(key) or {}).items() if is_extended(name)}
            status[key] = status[key] | theirs | {name: str(numbers[place]) for name, numbers in own.items()}
        for name, value in status["capacity"].items():
            if is_extended(name):
                status["allocatable"].setdefault(name, value)
        return status

    def at_least(self, node: Object) -> Object:
        """The node with no less allocatable than pods hold already."""
        allocated = self.devices.allocated()
        if not allocated:
            return node
        status = node.get("status") or {}
        allocatable = dict(status.get("allocatable") or {})
        known = amounts(allocatable)
        for name, number in allocated.items():
            if name not in known or known[name] < from_units(number):
                allocatable[name] = str(number)
        return {**node, "status": {**status, "allocatable": allocatable}}


class DevicePlugins:
    """Device plugins that announce themselves in plugins_registry instead of calling Register."""

    def __init__(self, devices: DeviceManager) -> None:
        self._devices = devices

    def validate(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        """Raises AllocationError."""
        if VERSION not in versions:
            listed = " ".join(versions)
            raise AllocationError(f"manager version, {VERSION}, is not among plugin supported versions [{listed}]")
        if not is_extended(name):
            raise AllocationError(f'invalid name of device plugin socket: the ResourceName "{name}" is invalid')

    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        """Raises AllocationError."""
        await self._devices.connect(name, endpoint)

    def deregister(self, name: str, endpoint: str) -> None:
        self._devices.disconnect(name, endpoint)


def _ran(pod: Object) -> bool:
    """Whether the API knows of a container of this pod that ran."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(entry.get("containerID") for entry in statuses)
