"""The plugins of one node, as the rest of the kubelet sees them: one object that app.py makes.

It admits pods that ask for devices, gives their containers what they hold, and puts it into statuses of nodes and pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tiphys.api.quantity import from_units
from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.kubelet import events as ev
from tiphys.kubelet.admission import Refusal
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.devices.grants import NOTHING, Grants
from tiphys.kubelet.devices.manager import DeviceManager, is_extended
from tiphys.kubelet.devices.pool import AllocationError
from tiphys.kubelet.node import NodeAgent
from tiphys.kubelet.podresources.server import NoExclusive, PodResources
from tiphys.kubelet.podspec import Object, is_deleted, is_terminal, uid_of
from tiphys.kubelet.resources import amounts
from tiphys.kubelet.worker import PodWorker

log = logging.getLogger(__name__)

Workers = Callable[[], Iterable[PodWorker]]


class NodePlugins:
    """See the module's docstring."""

    def __init__(self, config: KubeletConfig, clock: Clock, agent: NodeAgent, workers: Workers) -> None:
        self._agent = agent
        self._workers = workers
        self._reported = asyncio.Event()
        self.devices = DeviceManager(config.root_dir, clock, self._active, self._changed)
        self.pod_resources = PodResources(
            config.root_dir, clock, self.devices, self._pods, lambda pod, container: [], NoExclusive()
        )
        self.resave: Callable[[PodWorker], None] = lambda worker: None
        """Has a pod's status written again, with what is known of its devices now."""
        agent.extend = self.extend

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.devices.run(), name="device plugins")
            group.create_task(self.pod_resources.run(), name="pod resources API")
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

    def _active(self) -> Iterable[str]:
        return (uid_of(pod) for pod in self._pods() if not is_terminal(pod))

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
        if not self.devices.wants(pod):
            return NOTHING
        return await self.devices.grants(pod, container)

    def overlay(self, pod: Object, status: Mapping[str, Any]) -> Mapping[str, Any]:
        """A pod's status with the health of what its containers hold."""
        health = self.devices.health(uid_of(pod))
        if not health or not status.get("containerStatuses"):
            return status
        statuses = [
            {**one, "allocatedResourcesStatus": health[one["name"]]} if one["name"] in health else one
            for one in status["containerStatuses"]
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


def _ran(pod: Object) -> bool:
    """Whether the API knows of a container of this pod that ran."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(entry.get("containerID") for entry in statuses)
