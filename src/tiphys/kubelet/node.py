"""Registers the node and keeps it alive in the API: its lease every 10 s, its status when it changes.

The lease (lease.py) is the heartbeat; the status is written when it differs, and every five minutes (KEP-589), spread
by chance so that the nodes of a cluster do not write at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import AlreadyExists, ApiError, Forbidden, TiphysError
from tiphys.client.backoff import Backoff
from tiphys.client.events import EventRecorder
from tiphys.client.resources import NODES
from tiphys.client.types import Client, Object
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.lease import NodeLease
from tiphys.kubelet.machine import read_machine
from tiphys.kubelet.nodeconditions import Health, transitions
from tiphys.kubelet.nodestatus import node_status, same_but_heartbeats
from tiphys.kubelet.registration import metadata_patch, new_node, without_extended
from tiphys.kubelet.status_patch import status_patch
from tiphys.runtime.types import Runtime, RuntimeInfo

log = logging.getLogger(__name__)

_JITTER = 0.04


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
        self._random = random.Random(config.node_name)  # noqa: S311 - spreads load, keeps no secret
        self._lease = NodeLease(config, client, clock)
        self._reported_at = float("-inf")
        self._report_delay = 0.0
        self._beaten_at = clock.monotonic()
        self._reporting = asyncio.Lock()
        self._poked = asyncio.Event()
        self.pressures: Callable[[], tuple[str, ...]] = tuple
        """Of the eviction manager."""
        self.troubles: Callable[[], Sequence[str]] = tuple
        """Why the node is not ready, besides what the runtime itself says."""
        self.volumes_in_use: Callable[[], Sequence[str]] = tuple
        """Unique names of attachable volumes that pods of the node use or are about to."""
        self.machine = read_machine(config.root_dir)
        self.port = config.port
        self._about = RuntimeInfo("", "")
        self.extend: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = lambda status, old: status
        """Puts into (status, the one before) what others know of the node."""
        self.before_report: Callable[[], None] = lambda: None
        """Called before each look at the node: what it has may be another's by now."""
        self.node: Object = new_node(config, self.machine, {})
        """The node as last seen in the API; before that, as it will register."""

    @property
    def allocatable(self) -> Mapping[str, str]:
        return (self.node.get("status") or {}).get("allocatable") or {}

    @property
    def reference(self) -> Object:
        """As events name the node."""
        return {"kind": "Node", "name": self._config.node_name, "uid": self._config.node_name, "apiVersion": "v1"}

    async def register(self) -> None:
        """Make the node known; tries until it is. Without register_node it waits for somebody else to make it."""
        self.event("Normal", "Starting", "Starting kubelet.")
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
        former: Mapping[str, Any] = {}
        if self._config.register_node:
            status = await self._status({})
            try:
                self.node = await self._client.create(NODES, new_node(self._config, self.machine, status))
            except (AlreadyExists, Forbidden):  # who may not make nodes may still have one
                self.node = await self._adopt()
                former = self.node.get("status") or {}
        else:
            self.node = await self._client.get(NODES, self._config.node_name)
            former = self.node.get("status") or {}
        self._tell_reboot(former)
        await self.report(force=True, known=_ready_only(former))

    async def _adopt(self) -> Object:
        """The node exists: bring what is the kubelet's own up to date, and leave the rest as it is."""
        name = self._config.node_name
        node = await self._client.get(NODES, name)
        if patch := metadata_patch(self._config, self.machine, node):
            node = await self._client.patch(NODES, name, patch)
        if patch := self._stale(node.get("status") or {}):
            node = await self._client.patch(NODES, name, {"status": patch}, subresource="status")
        return node

    def _stale(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """Extended resources after a reboot: their devices have to be announced again."""
        booted = (status.get("nodeInfo") or {}).get("bootID")
        return without_extended(status) if booted and booted != self.machine.boot_id else {}

    def _tell_reboot(self, former: Mapping[str, Any]) -> None:
        booted = (former.get("nodeInfo") or {}).get("bootID")
        if booted and booted != self.machine.boot_id:
            text = f"Node {self._config.node_name} has been rebooted, boot id: {self.machine.boot_id}"
            self.event("Warning", "Rebooted", text)

    def observe(self, old: Object | None, new: Object | None) -> None:
        """The node's object in the API changed."""
        if new is None:
            return
        if _revision(new) >= _revision(self.node):
            self.node = new
        before, after = (bool((one or {"spec": {}})["spec"].get("unschedulable")) for one in (old, new))
        if old is not None and before != after:
            self._status_event("NodeNotSchedulable" if after else "NodeSchedulable")

    def poke(self) -> None:
        """Something that the status tells has changed: write it now."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled: heartbeats, and the status at once when images come or go or conditions change."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_images(), name="images")
            group.create_task(self._follow_pokes(), name="conditions")
            await self._beat()

    async def _follow_images(self) -> None:
        async for _ in self._runtime.images.changes():
            await self._report_soon("images")

    async def _follow_pokes(self) -> None:
        while True:
            await self._poked.wait()
            self._poked.clear()
            await self._report_soon("conditions")

    async def _report_soon(self, what: str) -> None:
        try:
            await self.report()
        except (ApiError, OSError) as error:
            log.info("%s changed, the next heartbeat tells it: %s", what, error)

    async def _beat(self) -> None:
        """The lease and a look at the status in one go: a node that does nothing wakes once."""
        failures = 0
        renewal = self._config.lease_duration * 0.25
        interval = min(renewal, self._config.status_update_frequency)
        due = self._clock.monotonic()
        while True:
            try:
                await self._catch_up()
                if (now := self._clock.monotonic()) >= due:
                    await self._lease.renew(self.node)
                    due = now + 0.99 * renewal
                await self.report()
                self._beaten_at = self._clock.monotonic()
                failures = 0
                await self._clock.sleep(interval * (1 + _JITTER * self._random.random()))
            except (ApiError, OSError) as error:
                delay = self._backoff.delay(failures)
                failures += 1
                log.warning("heartbeat of %s failed, next try in %.1f s: %s", self._config.node_name, delay, error)
                await self._clock.sleep(delay)

    async def _catch_up(self) -> None:
        """After a silence the control plane may have given the node up: what it says of it now is to be put right."""
        if self._clock.monotonic() - self._beaten_at > self._config.lease_duration:
            self.node = await self._client.get(NODES, self._config.node_name)

    async def report(self, force: bool = False, known: Mapping[str, Any] | None = None) -> None:
        """Write the status if it changed or is due. `known` stands for the former status where events tell what
        changed. Raises ApiError, OSError."""
        async with self._reporting:
            await self._report(force, known)

    async def _report(self, force: bool, known: Mapping[str, Any] | None) -> None:
        old = self.node.get("status") or {}
        status = await self._status(old)
        now = self._clock.monotonic()
        changed = not same_but_heartbeats(old, status)
        due = now - self._reported_at >= self._config.status_report_frequency + self._report_delay
        if not changed and not due and not force:
            return
        theirs = {name: value for name, value in old.items() if name in status}
        theirs["conditions"] = _same_kinds(theirs.get("conditions"), status["conditions"])
        patch = status_patch(theirs, status)
        if patch:
            self.node = await self._client.patch(NODES, self._config.node_name, {"status": patch}, subresource="status")
        spread = self._random.random() - 0.5 if changed or force else 0.0
        self._report_delay = spread * self._config.status_report_frequency
        self._reported_at = now
        for reason in transitions(old if known is None else known, status):
            self._status_event(reason)

    async def _status(self, old: Mapping[str, Any]) -> dict[str, Any]:
        self.before_report()
        images, errors = [], []
        try:
            images = list(await self._runtime.images.list())
            self._about = await self._runtime.info()
        except (TiphysError, OSError) as error:
            log.warning("the runtime does not answer: %s", error)
            errors.append("container runtime is down")
        health = Health(self.pressures(), (*errors, *self._about.problems, *self.troubles()))
        now = self._clock.time()
        status = node_status(self._config, self.machine, health, images, self._about, self.port, old, now)
        status = self.extend(status, old)
        volumes = sorted(self.volumes_in_use())
        return status | ({"volumesInUse": volumes} if volumes or old.get("volumesInUse") else {})

    def _status_event(self, reason: str) -> None:
        self.event("Normal", reason, f"Node {self._config.node_name} status is now: {reason}")

    def event(self, type: str, reason: str, message: str) -> None:
        """Record one about the node."""
        self._recorder.about(self.reference, type, reason, message)


def _same_kinds(theirs: Any, own: Any) -> list[Any]:
    """Conditions of others (network plugins, problem detectors) are theirs to remove."""
    kinds = {condition["type"] for condition in own}
    return [condition for condition in theirs or () if condition["type"] in kinds]


def _ready_only(status: Mapping[str, Any]) -> dict[str, Any]:
    """A starting kubelet tells its pressures anew, and that it is ready only if it was not."""
    return {"conditions": [one for one in status.get("conditions") or () if one["type"] == "Ready"]}


def _revision(node: Object) -> int:
    text = str(node["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0
