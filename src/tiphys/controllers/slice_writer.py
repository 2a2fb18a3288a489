"""A shell that writes EndpointSlices with generated names: it waits until the cache has what it wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.resources import ENDPOINT_SLICES
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, labels, name, namespace, namespace_terminating
from tiphys.controllers.slice_packing import MANAGED_BY, SERVICE_NAME, Writes
from tiphys.controllers.slice_tracker import SliceTracker
from tiphys.controllers.trigger_times import stamped

PATIENCE = 60.0
"""Seconds for which the cache may be behind what we wrote."""


class SliceWriter(Controller):
    """Keys are the Services of slices. Subclasses say who manages the slices, and what owns them in messages."""

    manager: ClassVar[str]
    """Value of the label that tells whose slices are whose."""
    owner_kind: ClassVar[str]

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._tracker = SliceTracker()
        self._blocked: dict[str, float] = {}
        """Keys that wait until the cache has their slices as we left them, and since when."""
        self._foreign_delay = 0.0
        """Seconds after which a slice that somebody else changed is put right."""
        self._slices = self.watch(ENDPOINT_SLICES)
        self._slices.add_index("service", service_of_slice)
        self._slices.subscribe(self._slice_changed)

    def slices_of(self, key: str) -> list[Object]:
        """Our slices of a Service, those aside that are being deleted."""
        return [each for each in self._mine(key) if not deleting(each)]

    def waits(self, key: str) -> bool:
        """Whether to wait for the cache. A slice that others delete before we see it never shows: not for ever."""
        if not self._tracker.behind(key, self._mine(key)):
            return False
        now = self.clock.monotonic()
        if now - self._blocked.setdefault(key, now) < PATIENCE:
            return True
        self.forget(key)
        return False

    def forget(self, key: str) -> None:
        """Nothing is expected of the slices of a Service any more."""
        self._tracker.forget(key)
        self._blocked.pop(key, None)

    async def write(self, key: str, writes: Writes, trigger: float = 0.0) -> str:
        """Carry out; returns what went wrong, "" for nothing."""
        doing = "create"
        try:
            for each in writes.create:
                self._tracker.wrote(key, await self.client.create(ENDPOINT_SLICES, stamped(each, trigger)))
            for each in writes.update:
                doing = f"update {name(each)}"
                self._tracker.wrote(key, await self.client.update(ENDPOINT_SLICES, stamped(each, trigger)))
            for held in writes.delete:
                doing = f"delete {name(held)}"
                await self.delete(key, held)
        except ApiError as error:
            if doing == "create" and namespace_terminating(error):
                return ""
            return f"failed to {doing} EndpointSlice for {self.owner_kind} {key}: {error}"
        return ""

    async def delete(self, key: str, held: Object) -> None:
        try:
            await self.client.delete(ENDPOINT_SLICES, name(held), namespace(held))
        except NotFound:
            return
        self._tracker.deleted(key, held)

    def _mine(self, key: str) -> Iterable[Object]:
        found = self._slices.by_index("service", key)
        return [each for each in found if labels(each).get(MANAGED_BY) == self.manager]

    def _keys(self, held: Object | None) -> list[str]:
        if held is None or labels(held).get(MANAGED_BY) != self.manager:
            return []
        return list(service_of_slice(held))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for key in dict.fromkeys((*self._keys(old), *self._keys(new))):
            if self._blocked.pop(key, None) is not None:
                self.queue.add(key)
            if self._is_foreign(key, old, new):
                self.queue.add_after(key, self._foreign_delay)

    def _is_foreign(self, key: str, old: Object | None, new: Object | None) -> bool:
        """Whether somebody else changed a slice of that Service, or gave it to another one."""
        if new is None:
            return old is not None and self._tracker.removed_by_others(key, old)
        if old is not None and self._keys(old) != self._keys(new):
            return True
        return self._tracker.changed_by_others(key, new)


def service_of_slice(held: Object) -> Iterable[str]:
    """The key of the Service that a slice is of."""
    owner = labels(held).get(SERVICE_NAME)
    return (f"{namespace(held)}/{owner}",) if owner else ()
