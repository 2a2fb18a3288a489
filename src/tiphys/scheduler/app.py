"""The scheduler's shell: pods without a node in, Bindings out.

Decisions are made one after the other, each on a snapshot that includes the ones before; Bindings are written
at the same time as later decisions are made. A Binding that fails gives the room back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import ApiError, Conflict, NotFound
from tiphys.client.events import NORMAL, WARNING, EventRecorder
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import NAMESPACES, NODES, PODS
from tiphys.client.types import Client
from tiphys.scheduler import plugins as default_plugins
from tiphys.scheduler.decide import Decision, decide
from tiphys.scheduler.queue import SchedulingQueue
from tiphys.scheduler.snapshot import FINISHED, PodInfo, Snapshot
from tiphys.scheduler.types import Plugin

log = logging.getLogger(__name__)
Object = Mapping[str, Any]

DEFAULT_NAME = "default-scheduler"
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
        self._plugins = tuple(plugins if plugins is not None else default_plugins.default())
        self._snapshot = Snapshot()
        self._queue = SchedulingQueue(clock)
        self._events = EventRecorder(client, clock, name)
        self._turn = 0
        self._slots = asyncio.Semaphore(BINDINGS_AT_ONCE)

    async def run(self) -> None:
        async with InformerFactory(self._client, self._clock) as informers, asyncio.TaskGroup() as tasks:
            for resource, changed in (
                (NAMESPACES, self._snapshot.namespace_changed),
                (NODES, self._node_changed),
                (PODS, self._pod_changed),
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
                decision = decide(info, self._snapshot, self._plugins, self._turn)
                if not decision.node:
                    self._queue.failed(info.key, moves)
                    tasks.create_task(self._report(info, decision), name="report")
                    continue
                self._turn += 1
                self._snapshot.place(info, decision.node)
                await self._slots.acquire()
                tasks.create_task(self._bind(info, decision.node), name="bind")
            await self._clock.sleep(0)

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
        except NotFound:
            self._undo(info, forget=True)
        except (ApiError, OSError) as error:
            log.warning("binding %s/%s to %s failed: %s", meta["namespace"], meta["name"], node, error)
            self._undo(info, forget=False)
            if not isinstance(error, Conflict):
                self._events.event(info.pod, WARNING, "FailedScheduling", f"binding rejected: {error}")
        else:
            message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
            self._events.event(info.pod, NORMAL, "Scheduled", message)
        finally:
            self._slots.release()

    def _undo(self, info: PodInfo, *, forget: bool) -> None:
        self._snapshot.remove(info.key)
        if forget:
            self._queue.remove(info.key)
        else:
            self._queue.failed(info.key, self._queue.moves, park=False)
        self._queue.something_changed()

    async def _report(self, info: PodInfo, decision: Decision) -> None:
        """Tell the pod's owner why it waits: an event, and the PodScheduled condition when it changes."""
        self._events.event(info.pod, WARNING, "FailedScheduling", decision.message)
        wanted = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": decision.message}
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

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        self._snapshot.node_changed(old, new)
        if new is not None and (old is None or _matters(old) != _matters(new)):
            self._queue.something_changed()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is None:
            return
        uid = str(pod["metadata"]["uid"])
        if new is None or (new.get("status") or {}).get("phase") in FINISHED:
            self._queue.remove(uid)
            if self._snapshot.placed(uid):
                self._snapshot.remove(uid)
                self._queue.something_changed()
        elif new["spec"].get("nodeName"):
            self._queue.remove(uid)
            self._snapshot.place(PodInfo.of(new), new["spec"]["nodeName"])
            if old is None or _concerns_others(old) != _concerns_others(new):
                self._queue.something_changed(for_opinionated=True)
        elif self._mine(new):
            if not self._snapshot.placed(uid):
                self._queue.put(PodInfo.of(new))
        else:
            self._queue.remove(uid)

    def _mine(self, pod: Object) -> bool:
        spec, meta = pod["spec"], pod["metadata"]
        named = (spec.get("schedulerName") or DEFAULT_NAME) == self._name
        return named and not spec.get("schedulingGates") and not meta.get("deletionTimestamp")


def _concerns_others(pod: Object) -> tuple[Any, ...]:
    """What of a pod decides whether others may be near it."""
    return pod["spec"].get("nodeName"), pod["metadata"].get("labels"), pod["metadata"].get("deletionTimestamp")


def _matters(node: Object) -> tuple[Any, ...]:
    """What of a node decides whether pods fit."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = node["metadata"].get("labels")
    return labels, spec.get("taints"), spec.get("unschedulable"), status.get("allocatable")
