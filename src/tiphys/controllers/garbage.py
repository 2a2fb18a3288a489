"""Garbage collection: what loses its last owner is deleted; owners may wait for, or set free, their dependents.

The shell of `owner_graph`: informers of every resource that can be listed, watched and deleted feed the graph;
workers look at the suspects, ask the server where the graph does not know (`garbage_calls`), and carry verdicts out.
What is not known is never taken for gone: it is looked up. So a resource that cannot be listed holds up nothing but
the start, for half a minute.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial

from tiphys.base.errors import ApiError, Permanent, Retry
from tiphys.client.backoff import Backoff
from tiphys.client.discovery import ApiResource, Discovery, discover
from tiphys.client.informer import Changed, Informer
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.types import Object, Resource
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.garbage_calls import GarbageCalls
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
    coordinates,
    matters,
    node_of,
    own_coordinates,
    owners_of,
    refers,
    stripped,
    verdict,
)

log = logging.getLogger(__name__)

_NEEDED = {"list", "watch", "delete"}
_IGNORED = {("", "events"), ("events.k8s.io", "events")}
_DEFINING = {("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")}
_SETTLE = 1.0
"""Seconds to wait after a change of what resources there are: several tend to change together."""
_PATIENCE = 30.0
"""Seconds that the first lists may take."""


class GarbageController(Controller):
    """Keys are uids, of objects that are known, or of owners that are not."""

    name = "garbage-collector-controller"
    account = "generic-garbage-collector"
    workers = 20

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._graph = OwnerGraph()
        self._calls = GarbageCalls(self.client)
        self._orphans: WorkQueue[str] = WorkQueue()
        self._monitors: dict[Resource, tuple[Informer, Changed]] = {}
        self._definitions_changed = asyncio.Event()

    async def run(self) -> None:
        await self._discover_until_it_works()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.recorder.run(), name=f"{self.name} events")
            tasks.create_task(self._rediscover(), name=f"{self.name} discovery")
            try:
                async with asyncio.timeout(_PATIENCE):
                    for informer, _ in list(self._monitors.values()):
                        await informer.wait_synced()
            except TimeoutError:
                log.warning("not all resources could be listed; collecting garbage without them")
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
                self._monitor(await discover(self.client))
            except (ApiError, OSError) as error:
                log.warning("discovery failed, tried again later: %s", error)
                await self.clock.sleep(backoff.delay(failures))
            else:
                return

    def _monitor(self, found: Discovery) -> None:
        """Watch what can be collected, stop watching what is gone; what is only out of sight is kept."""
        self._calls.kinds = {(each.api_version, each.kind): each for each in found.resources}
        wanted = {
            each.resource: each
            for each in found.resources
            if each.verbs >= _NEEDED and each.group_resource not in _IGNORED
        }
        for resource in wanted.keys() - self._monitors.keys():
            self._begin(wanted[resource])
        for resource in self._monitors.keys() - wanted.keys():
            if not found.lacks(resource.group):
                informer, changed = self._monitors.pop(resource)
                informer.unsubscribe(changed)
                self.context.informers.stop(informer)

    def _begin(self, api: ApiResource) -> None:
        informer = self.context.informers.metadata_of(api.resource, stripped)
        subscriber: Changed = partial(self._changed, api)
        self._monitors[api.resource] = (informer, subscriber)
        informer.subscribe(subscriber)
        if api.group_resource in _DEFINING:
            informer.subscribe(self._definition_changed)

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        self._definitions_changed.set()

    def _changed(self, api: ApiResource, old: Object | None, new: Object | None) -> None:
        if new is not None:
            if old is None or matters(old, new):
                self._add(self._graph.update(node_of(api.resource, new, api.kind)))
        elif old is not None:
            node = self._graph.get(uid(old))
            if node is not None and self._graph.has_dependents(node.uid):
                self._calls.gone(own_coordinates(node))
            self._add(self._graph.remove(uid(old)))

    def _add(self, work: Work) -> None:
        for each in work.examine:
            self.queue.add(each)
        for each in work.orphan:
            self._orphans.add(each)
        for node, owner in work.misplaced:
            self._report(node, owner)

    def _report(self, node: Node, owner: Owner) -> None:
        about = {
            "kind": node.kind,
            "namespace": node.namespace,
            "name": node.name,
            "uid": node.uid,
            "apiVersion": node.api_version,
        }
        where = coordinates(owner, node.namespace)
        message = f'ownerRef {where} does not exist in namespace "{node.namespace}"'
        self.recorder.about(
            {key: value for key, value in about.items() if value}, "Warning", "OwnerRefInvalidNamespace", message
        )

    async def reconcile(self, key: str) -> Result | None:
        node = self._graph.get(key)
        if node is None:
            await self._look_for(key)
        elif node.foreground:
            await self._wait_for_dependents(node)
        elif not node.deleting:
            await self._judge(node)
        return None

    async def _look_for(self, owner: str) -> None:
        """An owner that has not been seen: its dependents are suspect if it is not there. If it is, it comes into sight
        soon, unless nobody can watch it: then it is looked for again, ever less often."""
        there, unknown = False, False
        for where, dependents in self._graph.claims(owner).items():
            try:
                there |= await self._calls.look_up(where) is not OwnerState.DANGLING
            except Retry:
                unknown = True
                continue
            except Permanent as error:
                log.info("%s refers to %s: %s", dependents[0].name, where, error)
                continue
            if self._calls.absent(Owner(where.api_version, where.kind, where.name, where.uid), where.namespace):
                for each in dependents:
                    self.queue.add(each.uid)
        if unknown or (there and self._graph.get(owner) is None):
            raise Retry(f"owner {owner} has not been seen yet")

    async def _wait_for_dependents(self, node: Node) -> None:
        blocking = self._graph.blocking(node.uid)
        if not blocking:
            await self._calls.remove_finalizer(node, FOREGROUND)
        for dependent in blocking:
            if not dependent.foreground:
                self.queue.add(dependent.uid)

    async def _judge(self, node: Node) -> None:
        """What the graph knows for sure needs no look at the server but the deletion itself."""
        known = [self._known(node, owner) for owner in node.owners]
        if all(each is OwnerState.SOLID for each in known):
            return
        seen = self._seen(node) if all(each is OwnerState.DANGLING for each in known) else None
        if seen is None:
            seen = await self._calls.live(node)
        if seen is None or deleting(seen):
            return
        owners = owners_of(seen)
        states = {owner: await self._state(node, owner) for owner in owners}
        decision = verdict(owners, states, finalizers(seen), self._graph.has_dependents(node.uid))
        await self._carry_out(node, seen, decision)

    async def _carry_out(self, node: Node, seen: Object, decision: Verdict) -> None:
        if decision.action is Action.DROP_REFERENCES:
            await self._calls.drop_references(node, decision.drop)
        elif decision.action in (Action.DELETE, Action.DELETE_FOREGROUND):
            waits = decision.action is Action.DELETE_FOREGROUND
            if waits and any(each.foreground for each in self._graph.dependents(node.uid)):
                await self._calls.unblock(node)
                live = await self._calls.live(node)
                if live is None:
                    return
                seen = live
            if not await self._calls.delete(node, seen, decision.propagation):
                raise Retry(f"{node.resource.plural} {node.name} changed while it was judged")

    def _seen(self, node: Node) -> Object | None:
        """The object as the cache has it."""
        monitor = self._monitors.get(node.resource)
        seen = monitor[0].get(node.namespace, node.name) if monitor is not None else None
        return seen if seen is not None and uid(seen) == node.uid else None

    def _known(self, node: Node, owner: Owner) -> OwnerState | None:
        """What is known of an owner without asking."""
        if self._calls.absent(owner, node.namespace):
            return OwnerState.DANGLING
        known = self._graph.get(owner.uid)
        if known is None or not refers(node, owner, known):
            return None
        return OwnerState.WAITING if known.foreground else OwnerState.SOLID

    async def _state(self, node: Node, owner: Owner) -> OwnerState:
        known = self._known(node, owner)
        return known if known is not None else await self._calls.look_up(coordinates(owner, node.namespace))

    async def _orphan(self, key: str) -> Result | None:
        """Set the dependents of an object free, then let it go."""
        node = self._graph.get(key)
        if node is not None and node.orphaning:
            await self._calls.orphan(key, self._graph.dependents(key))
            await self._calls.remove_finalizer(node, ORPHAN)
        return None
