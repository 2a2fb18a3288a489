"""EndpointSlices: for every Service with a selector, its pods in slices of at most 100 (see `slices`)."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.events import WARNING
from tiphys.client.informer import index_by_field
from tiphys.client.reconcile import Result
from tiphys.client.resources import ENDPOINT_SLICES, NODES
from tiphys.client.types import Object
from tiphys.controllers.base import ControllerContext
from tiphys.controllers.objects import deleting, int_of, labels, name, namespace, namespace_terminating
from tiphys.controllers.service_pods import ServicePodsController, selects_pods
from tiphys.controllers.slices import MANAGED_BY, MANAGER, SERVICE_NAME, ZONE, Writes, plan


class EndpointSliceController(ServicePodsController):
    """The shell. Slices have generated names, so it waits until it sees what it wrote before it writes again."""

    name = "endpointslice-controller"
    account = "endpointslice-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._slices = self.watch(ENDPOINT_SLICES)
        self._nodes = self.watch(NODES)
        self._slices.add_index("service", _service_key)
        self._pods.add_index("node", index_by_field("spec", "nodeName"))
        self._unseen: dict[str, dict[str, int]] = {}
        """By Service: names of the slices that we wrote, with their revisions, until the cache has them."""
        self._slices.subscribe(self._slice_changed)
        self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(key)
        if service is None:
            self._unseen.pop(key, None)
            return None
        if not selects_pods(service) or deleting(service) or self._unseen.get(key):
            return None
        pods = list(self.pods_of(service))
        zones = {name(node): zone for node in self._nodes.list() if (zone := labels(node).get(ZONE))}
        existing = [each for each in self._slices.by_index("service", key) if not deleting(each)]
        try:
            await self._carry_out(key, plan(service, pods, zones, existing))
        except ApiError as error:
            if namespace_terminating(error):
                return None
            if error.code not in (404, 409):
                text = f"Error updating Endpoint Slices for Service {key}: {error}"
                self.recorder.event(service, WARNING, "FailedToUpdateEndpointSlices", text)
            raise
        return None

    async def _carry_out(self, key: str, writes: Writes) -> None:
        for each in writes.create:
            self._wrote(key, await self.client.create(ENDPOINT_SLICES, each))
        for each in writes.update:
            self._wrote(key, await self.client.update(ENDPOINT_SLICES, each))
        for held in writes.delete:
            try:
                await self.client.delete(ENDPOINT_SLICES, name(held), namespace(held))
            except NotFound:
                continue

    def _wrote(self, key: str, written: Object) -> None:
        held = self._slices.get(namespace(written), name(written))
        if held is None or _revision(held) < _revision(written):
            self._unseen.setdefault(key, {})[name(written)] = _revision(written)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        for key in _service_key(obj):
            waiting = self._unseen.get(key, {})
            if new is None or _revision(new) >= waiting.get(name(obj), 0):
                waiting.pop(name(obj), None)
            self.queue.add(key)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """A zone became known or changed."""
        if new is None or (old is not None and labels(old).get(ZONE) == labels(new).get(ZONE)):
            return
        for pod in self._pods.by_index("node", name(new)) if labels(new).get(ZONE) or old is not None else ():
            self.enqueue_services_of(pod)


def _service_key(held: Object) -> Iterable[str]:
    """The Service of a slice of ours."""
    marks = labels(held)
    if marks.get(MANAGED_BY) != MANAGER or not marks.get(SERVICE_NAME):
        return ()
    return (f"{namespace(held)}/{marks[SERVICE_NAME]}",)


def _revision(obj: Object) -> int:
    return int_of(obj["metadata"].get("resourceVersion"))
