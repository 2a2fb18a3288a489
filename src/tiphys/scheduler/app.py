"""The scheduler's shell: pods without a node in, Bindings out.

Decisions are made one after the other, each on a snapshot that includes the ones before; Bindings are written
at the same time as later decisions are made. A Binding that fails gives the room back, unless the pod turns out to be
bound all the same. A pod that fits nowhere is told so before it is tried again, so that the two writes never cross.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import ApiError, Conflict, NotFound, Permanent
from tiphys.client.event_series import EventSeriesRecorder
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import (
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from tiphys.client.types import Client
from tiphys.scheduler import plugins as default_plugins
from tiphys.scheduler.decide import Decider, Decision
from tiphys.scheduler.plugins.volumes import Plan, plan_for
from tiphys.scheduler.queue import SchedulingQueue
from tiphys.scheduler.snapshot import FINISHED, PodInfo, Snapshot
from tiphys.scheduler.types import Change, Plugin
from tiphys.scheduler.volume_binder import VolumeBinder

log = logging.getLogger(__name__)
Object = Mapping[str, Any]

DEFAULT_NAME = "default-scheduler"
LONGEST = 1024
"""Characters of an event's message."""
BINDINGS_AT_ONCE = 64
DECISIONS_IN_A_ROW = 16
"""After so many the event loop gets its turn, so that a burst does not starve the API server beside us."""


class Scheduler:
    """Gives nodes to the pods whose spec.schedulerName is `name`, until cancelled."""

    def __init__(
        self, client: Client, clock: Clock, name: str = DEFAULT_NAME, plugins: Sequence[Plugin] | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._snapshot = Snapshot()
        self._decider = Decider(self._snapshot, plugins if plugins is not None else default_plugins.default())
        self._assumed: dict[str, str] = {}
        """Nodes of the pods whose Binding is not seen yet."""
        self._queue = SchedulingQueue(clock)
        self._events = EventSeriesRecorder(client, clock, name)
        self._volumes = VolumeBinder(client, self._snapshot.storage)
        self._slots = asyncio.Semaphore(BINDINGS_AT_ONCE)

    async def run(self) -> None:
        async with InformerFactory(self._client, self._clock) as informers, asyncio.TaskGroup() as tasks:
            for resource, changed in (
                (NAMESPACES, self._namespace_changed),
                (NODES, self._node_changed),
                (PODS, self._pod_changed),
                (PERSISTENT_VOLUME_CLAIMS, self._claim_changed),
                (PERSISTENT_VOLUMES, self._volume_changed),
                (STORAGE_CLASSES, self._class_changed),
            ):
                informers.get(resource).subscribe(changed)
            await informers.wait_synced()
            tasks.create_task(self._events.run(), name="scheduler events")
            await self._schedule(tasks)

    async def _schedule(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            for _ in range(DECISIONS_IN_A_ROW):
                info = await self._queue.next()
                moves = self._queue.moves
                decision = self._decider.decide(info)
                if not decision.node:
                    tasks.create_task(self._refuse(info, decision, moves), name="refuse")
                    continue
                plan = self._plan(info, decision.node)
                self._assumed[info.key] = decision.node
                self._snapshot.place(info, decision.node)
                if plan.bindings or plan.provisions:
                    tasks.create_task(self._bind_with_volumes(info, decision.node, plan), name="bind volumes")
                    continue
                await self._slots.acquire()
                tasks.create_task(self._bind(info, decision.node), name="bind")
            await self._clock.sleep(0)

    def _plan(self, info: PodInfo, node: str) -> Plan:
        found = self._snapshot.node(node)
        return plan_for(info, found, self._snapshot.storage) if found is not None else Plan()

    async def _bind_with_volumes(self, info: PodInfo, node: str, plan: Plan) -> None:
        """Volumes may take minutes: nobody else waits for them."""
        try:
            await self._volumes.bind(plan, node)
        except (ApiError, Permanent, OSError) as error:
            self._not_bound(info, node, error)
            return
        await self._slots.acquire()
        await self._bind(info, node)

    async def _bind(self, info: PodInfo, node: str) -> None:
        meta = info.pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, meta["namespace"], name=meta["name"], subresource="binding")
        except (ApiError, OSError) as error:
            self._not_bound(info, node, error)
        else:
            message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
            self._events.event(info.pod, NORMAL, "Scheduled", message, action="Binding")
        finally:
            self._slots.release()

    def _not_bound(self, info: PodInfo, node: str, error: Exception) -> None:
        """Give the room back, unless the informer has told meanwhile what became of the pod."""
        if self._assumed.pop(info.key, "") != node:
            return
        self._snapshot.remove(info.key)
        self._queue.something_changed(Change.ROOM)
        if isinstance(error, NotFound):
            self._queue.remove(info.key)
            return
        log.warning("binding %s/%s to %s failed: %s", info.namespace, info.pod["metadata"]["name"], node, error)
        self._events.event(info.pod, WARNING, "FailedScheduling", f"binding rejected: {error}", action="Scheduling")
        self._queue.retry(info.key)

    async def _refuse(self, info: PodInfo, decision: Decision, moves: int) -> None:
        await self._report(info, decision)
        self._queue.failed(info.key, moves, decision.helped_by)

    async def _report(self, info: PodInfo, decision: Decision) -> None:
        """Tell the pod's owner why it waits: an event, and the PodScheduled condition when it changes."""
        text = decision.message if len(decision.message) <= LONGEST else f"{decision.message[: LONGEST - 4]} ..."
        self._events.event(info.pod, WARNING, "FailedScheduling", text, action="Scheduling")
        wanted: dict[str, Any] = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        wanted["message"] = decision.message
        if generation := info.pod["metadata"].get("generation"):
            wanted["observedGeneration"] = generation
        conditions = (info.pod.get("status") or {}).get("conditions") or ()
        known: Object = next((c for c in conditions if c["type"] == "PodScheduled"), {})
        if all(known.get(field) == value for field, value in wanted.items()):
            return
        since = known.get("lastTransitionTime") if known.get("status") == "False" else None
        wanted["lastTransitionTime"] = since or rfc3339(self._clock.time())
        meta = info.pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [wanted]}}
        try:
            await self._client.patch(PODS, meta["name"], patch, meta["namespace"], subresource="status")
        except (NotFound, Conflict):
            return
        except (ApiError, OSError) as error:
            log.warning("condition of %s/%s not written: %s", meta["namespace"], meta["name"], error)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        self._snapshot.namespace_changed(old, new)
        if new is not None and old is not None and old["metadata"].get("labels") != new["metadata"].get("labels"):
            self._queue.something_changed(Change.NEIGHBOURS)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _matters(old) == _matters(new):
            return
        self._snapshot.node_changed(old, new)
        self._queue.something_changed(Change.NEIGHBOURS if new is None else Change.NODE)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        self._snapshot.storage.claim_changed(old, new)
        self._storage_changed()

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        self._snapshot.storage.volume_changed(old, new)
        self._storage_changed()

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        self._snapshot.storage.class_changed(old, new)
        self._storage_changed()

    def _storage_changed(self) -> None:
        self._volumes.changed()
        self._queue.something_changed(Change.STORAGE)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is None:
            return
        uid = str(pod["metadata"]["uid"])
        if new is None or (new.get("status") or {}).get("phase") in FINISHED:
            self._queue.remove(uid)
            self._assumed.pop(uid, None)
            if self._snapshot.placed(uid):
                self._snapshot.remove(uid)
                self._queue.something_changed(Change.ROOM)
        elif new["spec"].get("nodeName"):
            self._bound_changed(uid, old, new)
        elif not self._mine(new):
            self._queue.remove(uid)
        elif uid not in self._assumed:
            self._queue.put(PodInfo(new))

    def _bound_changed(self, uid: str, old: Object | None, new: Object) -> None:
        if old is not None and old["spec"].get("nodeName"):
            change = _difference(old, new)
            if not change:
                return
        else:
            change = Change.NEIGHBOURS
            self._queue.remove(uid)
            self._assumed.pop(uid, None)
        self._snapshot.place(PodInfo(new), new["spec"]["nodeName"])
        self._queue.something_changed(change)

    def _mine(self, pod: Object) -> bool:
        spec, meta = pod["spec"], pod["metadata"]
        named = (spec.get("schedulerName") or DEFAULT_NAME) == self._name
        return named and not spec.get("schedulingGates") and not meta.get("deletionTimestamp")


def _difference(old: Object, new: Object) -> Change:
    """What the change of a bound pod may mean for others; nothing for those of its status alone."""
    change = Change(0)
    before, after = old["metadata"], new["metadata"]
    if any(before.get(field) != after.get(field) for field in ("labels", "deletionTimestamp")):
        change |= Change.NEIGHBOURS
    if old["spec"] != new["spec"]:
        change |= Change.ROOM
    return change


def _matters(node: Object) -> tuple[Any, ...]:
    """What of a node decides where pods go."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = node["metadata"].get("labels")
    return labels, spec.get("taints"), spec.get("unschedulable"), status.get("allocatable"), status.get("images")
