"""Garbage collection: what loses its last owner is deleted; owners may wait for, or set free, their dependents.

The shell of `owner_graph`: informers of every resource that can be listed, watched and deleted feed the graph;
workers look at the suspects, ask the server where the graph does not know, and carry verdicts out. All of it waits
until every informer has its first list, because what is not known must not be taken for gone.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from functools import partial

from tiphys.base.errors import ApiError, Conflict, NotFound, Retry
from tiphys.client.backoff import Backoff
from tiphys.client.discovery import ApiResource, preferred_resources
from tiphys.client.informer import Changed, Informer
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS
from tiphys.client.types import MERGE_PATCH, Object, Resource
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, finalizers, uid
from tiphys.controllers.owner_graph import (
    FOREGROUND,
    ORPHAN,
    Action,
    Node,
    Owner,
    OwnerGraph,
    OwnerState,
    Verdict,
    Work,
    node_of,
    owners_of,
    stripped,
    verdict,
)

log = logging.getLogger(__name__)

_NEEDED = {"list", "watch", "delete"}
_IGNORED = {("", "events"), ("events.k8s.io", "events")}
_SETTLE = 1.0
"""Seconds to wait after a change of what resources there are: several tend to change together."""


class GarbageController(Controller):
    """Keys are uids."""

    name = "garbage-collector-controller"
    account = "generic-garbage-collector"
    workers = 20

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._graph = OwnerGraph()
        self._orphans: WorkQueue[str] = WorkQueue()
        self._monitors: dict[Resource, tuple[Informer, Changed]] = {}
        self._kinds: dict[tuple[str, str], ApiResource] = {}
        self._definitions_changed = asyncio.Event()

    async def run(self) -> None:
        await self._discover_until_it_works()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.recorder.run(), name=f"{self.name} events")
            tasks.create_task(self._rediscover(), name=f"{self.name} discovery")
            for informer, _ in list(self._monitors.values()):
                await informer.wait_synced()
            tasks.create_task(run_workers(f"{self.name} orphans", self._orphans, self._orphan, 5))
            await run_workers(self.name, self.queue, self.reconcile, self.workers)

    async def _rediscover(self) -> None:
        while True:
            await self._definitions_changed.wait()
            await self.clock.sleep(_SETTLE)
            self._definitions_changed.clear()
            await self._discover_until_it_works()

    async def _discover_until_it_works(self) -> None:
        backoff = Backoff(base=1.0, limit=30.0)
        for failures in itertools.count():
            try:
                await self._discover()
            except (ApiError, OSError) as error:
                log.warning("discovery failed, tried again later: %s", error)
                await self.clock.sleep(backoff.delay(failures))
            else:
                return

    async def _discover(self) -> None:
        """Watch what can be collected, stop watching what is gone."""
        found = [each for each in await preferred_resources(self.client) if each.verbs >= _NEEDED]
        self._kinds = {(each.api_version, each.kind): each for each in found}
        wanted = {each.resource for each in found if (each.resource.group, each.resource.plural) not in _IGNORED}
        for resource in wanted - self._monitors.keys():
            informer = self.context.informers.metadata_of(resource, stripped)
            subscriber: Changed = partial(self._changed, resource)
            self._monitors[resource] = (informer, subscriber)
            informer.subscribe(subscriber)
            if resource.plural == CUSTOM_RESOURCE_DEFINITIONS.plural:
                informer.subscribe(self._definition_changed)
        for resource in self._monitors.keys() - wanted:
            informer, changed = self._monitors.pop(resource)
            informer.unsubscribe(changed)
            self.context.informers.stop(informer)

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        self._definitions_changed.set()

    def _changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._add(self._graph.update(node_of(resource, new)))
        elif old is not None:
            self._add(self._graph.remove(uid(old)))

    def _add(self, work: Work) -> None:
        for each in work.examine:
            self.queue.add(each)
        for each in work.orphan:
            self._orphans.add(each)

    async def reconcile(self, key: str) -> Result | None:
        node = self._graph.get(key)
        if node is None or (node.deleting and not node.foreground):
            return None
        live = await self._live(node)
        if live is None:
            return None
        if node.foreground:
            await self._wait_for_dependents(node)
        if node.owners and not deleting(live):
            await self._judge(node, live)
        return None

    async def _live(self, node: Node) -> Object | None:
        """The object as it is, or None if it is gone or another one has its name."""
        try:
            live = await self.client.get(node.resource, node.name, node.namespace)
        except NotFound:
            return None
        return live if uid(live) == node.uid else None

    async def _wait_for_dependents(self, node: Node) -> None:
        blocking = self._graph.blocking(node.uid)
        if not blocking:
            await self._remove_finalizer(node, FOREGROUND)
        for dependent in blocking:
            if not dependent.foreground:
                self.queue.add(dependent.uid)

    async def _judge(self, node: Node, live: Object) -> None:
        owners = owners_of(live)
        states = {owner.uid: await self._state(node, owner) for owner in owners}
        dependents = self._graph.dependents(node.uid)
        decision = verdict(owners, states, finalizers(live), bool(dependents))
        if decision.action is Action.DROP_REFERENCES:
            await self._drop_references(node, live, lambda owner: owner in decision.drop)
        elif decision.action in (Action.DELETE, Action.DELETE_FOREGROUND):
            if decision.action is Action.DELETE_FOREGROUND and any(each.foreground for each in dependents):
                live = await self._unblock(node, live)
            await self._delete(node, live, decision)

    async def _state(self, node: Node, owner: Owner) -> OwnerState:
        known = self._graph.get(owner.uid)
        if known is not None and (not known.namespace or known.namespace == node.namespace):
            return OwnerState.WAITING if known.foreground else OwnerState.SOLID
        api = self._kinds.get((owner.api_version, owner.kind)) or await self._kind(owner)
        if api.resource.namespaced and not node.namespace:
            raise Retry(f"{node.name} names a namespaced owner, but has no namespace", after=3600.0)
        try:
            live = await self.client.get(api.resource, owner.name, node.namespace if api.resource.namespaced else "")
        except NotFound:
            return OwnerState.DANGLING
        if uid(live) != owner.uid:
            return OwnerState.DANGLING
        waiting = deleting(live) and FOREGROUND in finalizers(live)
        return OwnerState.WAITING if waiting else OwnerState.SOLID

    async def _kind(self, owner: Owner) -> ApiResource:
        """The resource of an owner whose version is not its group's preferred one, or that is new."""
        group, _, version = owner.api_version.rpartition("/")
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        listing = await self.client.call("GET", path)
        for entry in listing.get("resources") or ():
            if entry["kind"] == owner.kind and "/" not in entry["name"]:
                resource = Resource(group, version, entry["name"], bool(entry.get("namespaced")))
                return ApiResource(resource, owner.kind, frozenset(entry.get("verbs") or ()))
        raise Retry(f"there is no kind {owner.kind} in {owner.api_version}", after=30.0)

    async def _delete(self, node: Node, live: Object, decision: Verdict) -> None:
        """Delete what was judged: if its owners changed meanwhile, it is judged anew."""
        revision = str(live["metadata"].get("resourceVersion") or "")
        try:
            await self.client.delete(
                node.resource,
                node.name,
                node.namespace,
                propagation=decision.propagation,
                uid=node.uid,
                resource_version=revision,
            )
        except NotFound:
            return
        except Conflict as error:
            raise Retry(f"{node.resource.plural} {node.name} changed while it was judged") from error

    async def _drop_references(self, node: Node, live: Object, drop: Callable[[str], bool]) -> None:
        references = live["metadata"].get("ownerReferences") or ()
        left = [each for each in references if not drop(each["uid"])]
        if len(left) != len(references):
            await self._patch(node, live, {"ownerReferences": left or None})

    async def _unblock(self, node: Node, live: Object) -> Object:
        """Two that wait for each other: this one does not block its owners any more."""
        references = live["metadata"].get("ownerReferences") or ()
        return await self._patch(
            node, live, {"ownerReferences": [{**each, "blockOwnerDeletion": False} for each in references]}
        )

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        live = await self._live(node)
        if live is not None and finalizer in finalizers(live):
            await self._patch(node, live, {"finalizers": [each for each in finalizers(live) if each != finalizer]})

    async def _patch(self, node: Node, live: Object, meta: dict[str, object]) -> Object:
        patch = {"metadata": {"resourceVersion": live["metadata"].get("resourceVersion"), "uid": node.uid, **meta}}
        return await self.client.patch(node.resource, node.name, patch, node.namespace, type=MERGE_PATCH)

    async def _orphan(self, key: str) -> Result | None:
        """Set the dependents of an object free, then let it go."""
        node = self._graph.get(key)
        if node is None or not node.orphaning:
            return None
        for dependent in self._graph.dependents(key):
            live = await self._live(dependent)
            if live is not None:
                await self._drop_references(dependent, live, lambda owner: owner == key)
        await self._remove_finalizer(node, ORPHAN)
        return None
