"""status.hard and status.used of ResourceQuotas: what a namespace uses in all, counted anew.

Admission charges what is created; this counts what went, what a quota limits since it was made or changed, and what a
write that failed after it was charged left behind. Namespaced resources of any kind may be counted (count/NAME.GROUP).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from tiphys.api import quota_usage
from tiphys.api.quantity import from_units
from tiphys.client.discovery import preferred_resources
from tiphys.client.informer import Informer, key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    SERVICES,
)
from tiphys.client.types import Object, Resource
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, name, namespace, spec, status
from tiphys.controllers.owner_graph import stripped
from tiphys.controllers.pods import terminal

GroupResource = tuple[str, str]

_GATHER = 0.1
"""Seconds in which further changes of a namespace are awaited before it is counted again."""
_RECOUNT = 300.0
"""Seconds after which a quota is counted although nothing is known to have changed."""


def counted(hard: Iterable[str]) -> frozenset[GroupResource]:
    """(group, plural) of the resources whose objects count for these names."""
    found = (quota_usage.counts(name) for name in hard)
    return frozenset(each for each in found if each is not None)


def new_status(quota: Object, objects: Mapping[GroupResource, Iterable[Object]]) -> dict[str, Any]:
    """hard as the spec says, used as the objects add up; what is not counted here keeps its last figure."""
    hard = spec(quota).get("hard") or {}
    known = status(quota).get("used") or {}
    totals = {name: from_units(0) for name in hard if quota_usage.counts(name) in objects}
    for (group, plural), items in objects.items():
        for obj in items:
            if quota_usage.in_scope(quota, obj if (group, plural) == ("", "pods") else None):
                for name, amount in quota_usage.usage(group, plural, obj).items():
                    if name in totals:
                        totals[name] += amount
    used = {name: str(totals[name]) if name in totals else known.get(name) for name in hard}
    return {"hard": dict(hard), "used": {name: amount for name, amount in used.items() if amount is not None}}


class ResourceQuotaController(Controller):
    """Keys are ResourceQuotas."""

    name = "resourcequota-controller"
    account = "resourcequota-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._quotas = self.watch(RESOURCE_QUOTAS)
        self._counted: dict[GroupResource, Informer] = {}
        for resource in (PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS):
            self._count(("", resource.plural), self.watch(resource))
        self._quotas.subscribe(self._quota_changed)
        context.informers.metadata_of(CUSTOM_RESOURCE_DEFINITIONS, stripped).subscribe(self._definition_changed)

    async def reconcile(self, key: str) -> Result | None:
        quota = self._quotas.by_key(key)
        if quota is None or deleting(quota) or self.behind(key, quota):
            return None
        where = namespace(quota)
        objects: dict[GroupResource, list[Object]] = {}
        for each in counted(spec(quota).get("hard") or ()):
            informer = self._counted.get(each) or await self._discover(each)
            if informer is not None:
                objects[each] = informer.list(where)
        new = new_status(quota, objects)
        if new != status(quota):
            await self.update_status(RESOURCE_QUOTAS, quota, new)
        return Result(_RECOUNT)

    async def _discover(self, wanted: GroupResource) -> Informer | None:
        """Start to count a resource that no quota named before; None if there is no such resource."""
        for each in await preferred_resources(self.client):
            if (each.resource.group, each.resource.plural) == wanted and each.verbs >= {"list", "watch"}:
                return await self._begin(wanted, each.resource)
        return None

    async def _begin(self, wanted: GroupResource, resource: Resource) -> Informer:
        informer = self.context.informers.metadata_of(resource, stripped)
        await informer.wait_synced()
        if wanted not in self._counted:
            self._count(wanted, informer)
        return informer

    def _count(self, what: GroupResource, informer: Informer) -> None:
        self._counted[what] = informer
        informer.subscribe(partial(self._changed, what))

    def _changed(self, what: GroupResource, old: Object | None, new: Object | None) -> None:
        """An object of a resource that counts came, went, or stopped to count."""
        obj = new or old
        if obj is None:
            return
        if old is not None and new is not None and not _differs(what, old, new):
            return
        for quota in self._quotas.list(namespace(obj)):
            if what in counted(spec(quota).get("hard") or ()):
                self.queue.add_after(key_of(quota), _GATHER)

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        """A custom resource came or went: look at the quotas that count it."""
        plural, _, group = name(new or old or {}).partition(".")
        what = group, plural
        if new is None and (informer := self._counted.pop(what, None)) is not None:
            self.context.informers.stop(informer)
        if new is not None and what in self._counted:
            return
        for quota in self._quotas.list():
            if what in counted(spec(quota).get("hard") or ()):
                self.queue.add_after(key_of(quota), _GATHER)

    def _quota_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or spec(old) != spec(new):
            self.enqueue(old, new)


def _differs(what: GroupResource, old: Object, new: Object) -> bool:
    if what == ("", "pods"):
        return terminal(old) != terminal(new) or spec(old) != spec(new)
    return what in (("", "services"), ("", "persistentvolumeclaims")) and spec(old) != spec(new)
