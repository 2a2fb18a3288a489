"""EndpointSlices: for every Service with a selector, its pods in slices of at most 100 (see `slices`)."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.base.errors import ApiError, NotFound, Retry
from tiphys.client.events import WARNING
from tiphys.client.informer import index_by_field
from tiphys.client.reconcile import Result
from tiphys.client.resources import ENDPOINT_SLICES, NODES
from tiphys.client.types import Object
from tiphys.controllers import nodes as nodelib
from tiphys.controllers.base import ControllerContext
from tiphys.controllers.objects import deleting, labels, name, namespace, namespace_terminating
from tiphys.controllers.service_pods import ServicePodsController, selects_pods
from tiphys.controllers.slice_packing import MANAGED_BY, SERVICE_NAME, Writes
from tiphys.controllers.slice_topology import ZONE, Topology
from tiphys.controllers.slice_tracker import SliceTracker
from tiphys.controllers.slices import MANAGER, PER_SLICE, Planner
from tiphys.controllers.trigger_times import TriggerTimes, stamped

_PATIENCE = 60.0
"""Seconds for which the cache may be behind what we wrote."""
_FOREIGN_CHANGE = 1.0
"""Seconds after which a slice that somebody else changed is put right."""


class EndpointSliceController(ServicePodsController):
    """The shell. Slices have generated names, so it waits until it sees what it wrote before it writes again."""

    name = "endpointslice-controller"
    account = "endpointslice-controller"
    component = "endpoint-slice-controller"
    batch_setting = "endpointslice-updates-batch-period"
    first_retry = 1.0

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._tracker = SliceTracker()
        self._blocked: dict[str, float] = {}
        """Services that wait until the cache has their slices as we left them, and since when."""
        self._times = TriggerTimes()
        self._slices = self.watch(ENDPOINT_SLICES)
        self._nodes = self.watch(NODES)
        self._topology = Topology(self._nodes.list)
        limit = int(context.settings.get("max-endpoints-per-slice", PER_SLICE))
        self._planner = Planner(lambda node: self._nodes.get("", node), self._topology, limit)
        self._slices.add_index("service", _service_key)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._slices.subscribe(self._slice_changed)
        self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(key)
        if service is None:
            self._forget(key)
        elif selects_pods(service):
            if self._behind(key):
                return Result(_PATIENCE)
            await self._sync(key, service)
        return None

    def _behind(self, key: str) -> bool:
        """Whether to wait for the cache. A slice that others delete before we see it never shows: not for ever."""
        if not self._tracker.behind(key, self._slices.by_index("service", key)):
            return False
        now = self.clock.monotonic()
        if now - self._blocked.setdefault(key, now) < _PATIENCE:
            return True
        del self._blocked[key]
        self._tracker.forget(key)
        return False

    async def _sync(self, key: str, service: Object) -> None:
        existing = [each for each in self._slices.by_index("service", key) if not deleting(each)]
        pods = self.pods_of(service)
        trigger = self._times.note(key, service, pods)
        problems = []
        for plan in self._planner.plan(service, pods, existing):
            problems += plan.problems
            problems += await self._carry_out(key, plan.writes, trigger)
            for kind, reason, message in plan.events:
                self.recorder.event(service, kind, reason, message)
        if problems:
            text = problems[0] if len(problems) == 1 else f"[{', '.join(dict.fromkeys(problems))}]"
            message = f"Error updating Endpoint Slices for Service {key}: {text}"
            self.recorder.event(service, WARNING, "FailedToUpdateEndpointSlices", message)
            raise Retry(text)

    async def _carry_out(self, key: str, writes: Writes, trigger: float) -> list[str]:
        """Write; returns what went wrong."""
        doing = "create"
        try:
            for each in writes.create:
                self._tracker.wrote(key, await self.client.create(ENDPOINT_SLICES, stamped(each, trigger)))
            for each in writes.update:
                doing = f"update {name(each)}"
                self._tracker.wrote(key, await self.client.update(ENDPOINT_SLICES, stamped(each, trigger)))
            for held in writes.delete:
                doing = f"delete {name(held)}"
                await self._delete(key, held)
        except ApiError as error:
            if doing == "create" and namespace_terminating(error):
                return []
            return [f"failed to {doing} EndpointSlice for Service {key}: {error}"]
        return []

    async def _delete(self, key: str, held: Object) -> None:
        try:
            await self.client.delete(ENDPOINT_SLICES, name(held), namespace(held))
        except NotFound:
            return
        self._tracker.deleted(key, held)

    def _forget(self, key: str) -> None:
        for family in ("IPv4", "IPv6"):
            self._topology.forget(key, family)
        self._tracker.forget(key)
        self._times.forget(key)
        self._sizes.pop(key, None)
        self._blocked.pop(key, None)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        keys = {*_service_key(old or {}), *_service_key(new or {})}
        for key in keys:
            if self._blocked.pop(key, None) is not None:
                self.queue.add(key)
            if self._is_foreign(key, old, new):
                self.queue.add_after(key, max(_FOREIGN_CHANGE, self._batch))

    def _is_foreign(self, key: str, old: Object | None, new: Object | None) -> bool:
        """Whether somebody else changed a slice of that Service, or gave it to another one."""
        if new is None:
            return old is not None and self._tracker.removed_by_others(key, old)
        if old is not None and _service_key(old) != _service_key(new):
            return True
        return self._tracker.changed_by_others(key, new)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Zones became known or changed, or a node that pods were on turned up."""
        node = new or old
        if node is None or (old is not None and new is not None and _place(old) == _place(new)):
            return
        if new is not None and (old is None or labels(old).get(ZONE) != labels(new).get(ZONE)):
            for pod in self._pods.by_index("node", name(new)):
                self.enqueue_services_of(pod)
        self._topology.nodes_changed()
        for key in self._topology.overloaded():
            self.queue.add(key)


def _place(node: Object) -> tuple[bool, str | None]:
    return nodelib.is_ready(node), labels(node).get(ZONE)


def _service_key(held: Object) -> Iterable[str]:
    """The Service of a slice of ours."""
    marks = labels(held) if held else {}
    if marks.get(MANAGED_BY) != MANAGER or not marks.get(SERVICE_NAME):
        return ()
    return (f"{namespace(held)}/{marks[SERVICE_NAME]}",)
