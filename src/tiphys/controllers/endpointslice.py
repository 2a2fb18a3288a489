"""EndpointSlices: for every Service with a selector, its pods in slices of at most 100 (see `slices`)."""

from __future__ import annotations

from tiphys.base.errors import Retry
from tiphys.client.events import WARNING
from tiphys.client.informer import index_by_field
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES
from tiphys.client.types import Object
from tiphys.controllers import nodes as nodelib
from tiphys.controllers.base import ControllerContext
from tiphys.controllers.objects import labels, name
from tiphys.controllers.service_pods import ServicePodsController, selects_pods
from tiphys.controllers.slice_topology import ZONE, Topology
from tiphys.controllers.slice_writer import PATIENCE, SliceWriter
from tiphys.controllers.slices import MANAGER, PER_SLICE, Planner
from tiphys.controllers.trigger_times import TriggerTimes

_FOREIGN_CHANGE = 1.0
"""Seconds after which a slice that somebody else changed is put right."""


class EndpointSliceController(ServicePodsController, SliceWriter):
    """The shell."""

    name = "endpointslice-controller"
    account = "endpointslice-controller"
    component = "endpoint-slice-controller"
    manager = MANAGER
    owner_kind = "Service"
    batch_setting = "endpointslice-updates-batch-period"
    first_retry = 1.0

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._foreign_delay = max(_FOREIGN_CHANGE, self._batch)
        self._times = TriggerTimes()
        self._nodes = self.watch(NODES)
        self._topology = Topology(self._nodes.list)
        limit = int(context.settings.get("max-endpoints-per-slice", PER_SLICE))
        self._planner = Planner(lambda node: self._nodes.get("", node), self._topology, limit)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(key)
        if service is None:
            self.forget(key)
        elif selects_pods(service):
            if self.waits(key):
                return Result(PATIENCE)
            await self._sync(key, service)
        return None

    async def _sync(self, key: str, service: Object) -> None:
        pods = self.pods_of(service)
        trigger = self._times.note(key, service, pods)
        problems = []
        for plan in self._planner.plan(service, pods, self.slices_of(key)):
            problems += plan.problems
            if problem := await self.write(key, plan.writes, trigger):
                problems.append(problem)
            for kind, reason, message in plan.events:
                self.recorder.event(service, kind, reason, message)
        if problems:
            text = problems[0] if len(problems) == 1 else f"[{', '.join(dict.fromkeys(problems))}]"
            message = f"Error updating Endpoint Slices for Service {key}: {text}"
            self.recorder.event(service, WARNING, "FailedToUpdateEndpointSlices", message)
            raise Retry(text)

    def forget(self, key: str) -> None:
        """The Service has gone, or its slices cannot be trusted to show."""
        super().forget(key)
        if self._services.by_key(key) is None:
            self._times.forget(key)
            self._sizes.pop(key, None)
            for family in ("IPv4", "IPv6"):
                self._topology.forget(key, family)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Zones became known or changed, or a node that pods are on already turned up."""
        if old is not None and new is not None and _place(old) == _place(new):
            return
        if new is not None and (old is None or labels(old).get(ZONE) != labels(new).get(ZONE)):
            for pod in self._pods.by_index("node", name(new)):
                self.enqueue_services_of(pod)
        self._topology.nodes_changed()
        for key in self._topology.overloaded():
            self.queue.add(key)


def _place(node: Object) -> tuple[bool, str | None]:
    return nodelib.is_ready(node), labels(node).get(ZONE)
