"""Endpoints that were written by hand, for Services without a selector, as EndpointSlices (see `mirrored_slices`)."""

from __future__ import annotations

from tiphys.base.errors import Retry
from tiphys.client.backoff import Backoff
from tiphys.client.reconcile import Result
from tiphys.client.resources import ENDPOINTS, SERVICES
from tiphys.client.types import Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers.base import ControllerContext
from tiphys.controllers.mirrored_slices import MANAGER, PER_SUBSET, mirror, mirrored
from tiphys.controllers.objects import spec
from tiphys.controllers.slice_writer import PATIENCE, SliceWriter


class EndpointSliceMirroringController(SliceWriter):
    """The shell. Keys are Endpoints, which have the name of their Service."""

    name = "endpointslice-mirroring-controller"
    account = "endpointslicemirroring-controller"
    component = "endpoint-slice-mirroring-controller"
    manager = MANAGER
    owner_kind = "Endpoints"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=1.0, limit=100.0))
        settings = context.settings
        self._limit = int(settings.get("mirroring-max-endpoints-per-subset", PER_SUBSET))
        self._foreign_delay = float(settings.get("mirroring-endpointslice-updates-batch-period", 0.0))
        self._endpoints = self.watch(ENDPOINTS)
        self._services = self.watch(SERVICES)
        self._endpoints.subscribe(self._endpoints_changed)
        self._services.subscribe(self._service_changed)
        for held in self._slices.list():
            self._slice_changed(None, held)

    async def reconcile(self, key: str) -> Result | None:
        endpoints, service = self._endpoints.by_key(key), self._services.by_key(key)
        if endpoints is None or not mirrored(endpoints) or service is None or spec(service).get("selector"):
            for held in self.slices_of(key):
                await self.delete(key, held)
            self.forget(key)
            return None
        if self.waits(key):
            return Result(PATIENCE)
        found = mirror(endpoints, self.slices_of(key), self._limit)
        for kind, reason, message in found.events:
            self.recorder.event(endpoints, kind, reason, message)
        if problem := await self.write(key, found.writes):
            raise Retry(problem)
        return None

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        if any(each is not None and mirrored(each) for each in (old, new)):
            self.enqueue(old, new)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        """A Service came, went, or got or lost its selector."""
        selects = {bool(spec(each).get("selector")) for each in (old, new) if each is not None}
        if len(selects) == 2 or (selects == {False} and (old is None or new is None)):
            self.enqueue(old, new)
