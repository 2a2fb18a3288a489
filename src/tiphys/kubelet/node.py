"""Registers the node and keeps it alive in the API: its lease every 10 s, its status when it changes.

The lease (kube-node-lease) is the heartbeat; the status is written when it differs, and every five minutes
(KEP-589). Pressure is looked at with each heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.api.quantity import parse
from tiphys.base.clock import Clock, rfc3339_micro
from tiphys.base.errors import AlreadyExists, ApiError, NotFound, TiphysError
from tiphys.client.backoff import Backoff
from tiphys.client.events import EventRecorder
from tiphys.client.resources import LEASES, NODES
from tiphys.client.types import Client, Object
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import available_memory, disk_room, read_machine
from tiphys.kubelet.nodestatus import Health, new_node, node_labels, node_status, same_but_heartbeats, transitions
from tiphys.kubelet.status_patch import status_patch
from tiphys.runtime.types import Runtime

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
_DISK_RESERVE = 0.05
"""Part of the disk below which the node has disk pressure."""


class NodeAgent:
    """The node's object and lease."""

    def __init__(
        self, config: KubeletConfig, client: Client, runtime: Runtime, clock: Clock, recorder: EventRecorder
    ) -> None:
        self._config = config
        self._client = client
        self._runtime = runtime
        self._clock = clock
        self._recorder = recorder
        self._backoff = Backoff(base=0.2, limit=7.0, jitter=0.1, seed=config.node_name)
        self._lease: Object | None = None
        self._reported_at = 0.0
        self._beaten_at = clock.monotonic()
        self._reporting = asyncio.Lock()
        self.machine = read_machine(config.root_dir)
        self.port = config.port
        self.extend: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = lambda status, old: status
        """Puts into (status, the one before) what others know of the node."""
        self.node: Object = new_node(config, self.machine, {})
        """The node as last seen in the API; before that, as it will register."""

    @property
    def allocatable(self) -> Mapping[str, str]:
        return (self.node.get("status") or {}).get("allocatable") or {}

    async def register(self) -> None:
        """Make the node known; tries until it is. Without register_node it waits for somebody else to make it."""
        failures = 0
        while True:
            try:
                await self._register()
            except (ApiError, OSError) as error:
                delay = self._backoff.delay(failures)
                failures += 1
                log.warning("cannot register node %s, next try in %.1f s: %s", self._config.node_name, delay, error)
                await self._clock.sleep(delay)
            else:
                return

    async def _register(self) -> None:
        status = await self._status({})
        if self._config.register_node:
            try:
                self.node = await self._client.create(NODES, new_node(self._config, self.machine, status))
            except AlreadyExists:
                self.node = await self._adopt()
        else:
            self.node = await self._client.get(NODES, self._config.node_name)
        self._event("Normal", "Starting", "Starting kubelet.")
        await self.report(force=True)

    async def _adopt(self) -> Object:
        """The node exists: bring its own labels up to date, and leave the rest as it is."""
        node = await self._client.get(NODES, self._config.node_name)
        labels = node_labels(self._config, self.machine)
        known = node["metadata"].get("labels") or {}
        if all(known.get(key) == value for key, value in labels.items()):
            return node
        patch = {"metadata": {"labels": labels}}
        return await self._client.patch(NODES, self._config.node_name, patch)

    async def run(self) -> None:
        """Until cancelled: heartbeats, and the status at once when images come or go."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_images(), name="images")
            await self._beat()

    async def _follow_images(self) -> None:
        async for _ in self._runtime.images.changes():
            try:
                await self.report()
            except (ApiError, OSError) as error:
                log.info("images changed, the next heartbeat tells it: %s", error)

    async def _beat(self) -> None:
        failures = 0
        while True:
            try:
                await self._catch_up()
                await self._renew()
                await self.report()
                self._beaten_at = self._clock.monotonic()
                failures = 0
                await self._clock.sleep(self._config.lease_renew_interval)
            except (ApiError, OSError) as error:
                self._lease = None
                delay = self._backoff.delay(failures)
                failures += 1
                log.warning("heartbeat of %s failed, next try in %.1f s: %s", self._config.node_name, delay, error)
                await self._clock.sleep(delay)

    async def _catch_up(self) -> None:
        """After a silence the control plane may have given the node up: what it says of it now is to be put right."""
        if self._clock.monotonic() - self._beaten_at > self._config.lease_duration:
            self.node = await self._client.get(NODES, self._config.node_name)

    async def _renew(self) -> None:
        name = self._config.node_name
        if self._lease is None:
            self._lease = await self._find_lease()
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._config.lease_duration,
            "renewTime": rfc3339_micro(self._clock.time()),
        }
        if self._lease is None:
            self._lease = await self._client.create(LEASES, self._new_lease(spec), NAMESPACE)
        else:
            wanted = {**self._lease, "spec": {**(self._lease.get("spec") or {}), **spec}}
            self._lease = await self._client.update(LEASES, wanted, NAMESPACE)

    async def _find_lease(self) -> Object | None:
        try:
            return await self._client.get(LEASES, self._config.node_name, NAMESPACE)
        except NotFound:
            return None

    def _new_lease(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        meta: dict[str, Any] = {"name": self._config.node_name, "namespace": NAMESPACE}
        if uid := self.node["metadata"].get("uid"):
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._config.node_name, "uid": uid}
            meta["ownerReferences"] = [owner]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": dict(spec)}

    async def report(self, force: bool = False) -> None:
        """Write the status if it changed or is due. Raises ApiError, OSError."""
        async with self._reporting:
            await self._report(force)

    async def _report(self, force: bool) -> None:
        old = self.node.get("status") or {}
        status = await self._status(old)
        now = self._clock.monotonic()
        due = now - self._reported_at >= self._config.status_report_frequency
        if same_but_heartbeats(old, status) and not due and not force:
            return
        theirs = {name: value for name, value in old.items() if name in status}
        theirs["conditions"] = _same_kinds(theirs.get("conditions"), status["conditions"])
        patch = status_patch(theirs, status)
        if patch:
            self.node = await self._client.patch(NODES, self._config.node_name, {"status": patch}, subresource="status")
        self._reported_at = now
        for reason in transitions({} if force else old, status):
            self._event("Normal", reason, f"Node {self._config.node_name} status is now: {reason}")

    async def _status(self, old: Mapping[str, Any]) -> dict[str, Any]:
        images, error = [], ""
        try:
            images = list(await self._runtime.images.list())
        except (TiphysError, OSError) as failed:
            error = str(failed)
        health = self._health(error)
        status = node_status(self._config, self.machine, health, images, self.port, old, self._clock.time())
        return self.extend(status, old)

    def _health(self, runtime_error: str) -> Health:
        threshold = self._config.eviction_hard.get("memory.available", "")
        least = parse(threshold).value if threshold and not threshold.endswith("%") else 0
        total, free = disk_room(self._config.root_dir)
        return Health(
            memory_pressure=available_memory() < least,
            disk_pressure=free < _DISK_RESERVE * total,
            runtime_error=runtime_error,
        )

    def _event(self, type: str, reason: str, message: str) -> None:
        name = self._config.node_name
        self._recorder.about({"kind": "Node", "name": name, "uid": name, "apiVersion": "v1"}, type, reason, message)


def _same_kinds(theirs: Any, own: Any) -> list[Any]:
    """Conditions of others (network plugins, problem detectors) are theirs to remove."""
    kinds = {condition["type"] for condition in own}
    return [condition for condition in theirs or () if condition["type"] in kinds]
