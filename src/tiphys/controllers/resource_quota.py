"""status.hard and status.used of ResourceQuotas: what a namespace uses in all, counted anew.

Admission charges what is created; this counts what went, what a quota limits since it was made or changed, and what a
write that failed after it was charged left behind. Namespaced resources of any kind may be counted (count/NAME.GROUP).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from tiphys.api import quota_pods, quota_usage
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
from tiphys.controllers.objects import deleting, name, namespace, semantically_equal, spec, status
from tiphys.controllers.owner_graph import stripped
from tiphys.controllers.pods import terminal

log = logging.getLogger(__name__)

GroupResource = tuple[str, str]

_CLAIMS = ("resource.k8s.io", "resourceclaims")
"""What counts by more than its number, but that few quotas name."""
_NEEDED = {"create", "list", "watch", "delete"}
_GATHER = 0.1
"""Seconds in which further changes of a namespace are awaited before it is counted again."""
_RECOUNT = 300.0
"""Seconds after which a quota is counted although nothing is known to have changed."""


def counted(hard: Iterable[str]) -> frozenset[GroupResource]:
    """(group, plural) of the resources whose objects count for these names."""
    found = (quota_usage.counts(name) for name in hard)
    return frozenset(each for each in found if each is not None)


def new_status(quota: Object, objects: Mapping[GroupResource, Iterable[Object]], now: float) -> dict[str, Any]:
    """hard as the spec says, used as the objects add up; what is not counted here keeps its last figure."""
    hard = spec(quota).get("hard") or {}
    known = status(quota).get("used") or {}
    totals = {name: from_units(0) for name in hard if quota_usage.counts(name) in objects}
    for (group, plural), items in objects.items():
        for obj in items:
            for counted_as, amount in _usage(group, plural, quota, obj, now).items():
                if counted_as in totals:
                    totals[counted_as] += amount
    used = {name: str(totals[name]) if name in totals else known.get(name) for name in hard}
    return {"hard": dict(hard), "used": {name: amount for name, amount in used.items() if amount is not None}}


def _usage(group: str, plural: str, quota: Object, obj: Object, now: float) -> quota_pods.Usage:
    """What one object uses of a quota; an object that makes no sense uses nothing, lest it stop all counting."""
    try:
        if quota_usage.in_scope(group, plural, quota, obj):
            return quota_usage.usage(group, plural, obj, now)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s %s cannot be counted: %r", plural, key_of(obj), error)
    return {}


def recount(pods: Iterable[Object], now: float) -> float:
    """Seconds until a quota is to be counted again: when a pod that does not end stops to count, or periodically."""
    moments = (end - now for pod in pods if (end := quota_pods.ends(pod)) is not None and end >= now)
    return min(min(moments, default=_RECOUNT) + 1, _RECOUNT)


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
        now = self.clock.time()
        new = new_status(quota, objects, now)
        if not semantically_equal(new, status(quota)):
            await self.update_status(RESOURCE_QUOTAS, quota, new)
        return Result(recount(objects.get(("", "pods"), ()), now))

    async def _discover(self, wanted: GroupResource) -> Informer | None:
        """Start to count a resource that no quota named before; None if there is no such resource."""
        for each in await preferred_resources(self.client):
            if (each.resource.group, each.resource.plural) == wanted and each.verbs >= _NEEDED:
                return await self._begin(wanted, each.resource)
        return None

    async def _begin(self, wanted: GroupResource, resource: Resource) -> Informer:
        informers = self.context.informers
        informer = informers.get(resource) if wanted == _CLAIMS else informers.metadata_of(resource, stripped)
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
    """Whether a change may be one of what is used."""
    if what == ("", "pods"):
        ended = terminal(old) != terminal(new) or deleting(old) != deleting(new)
        return ended or spec(old) != spec(new) or _resized(old) != _resized(new)
    if what == ("", "persistentvolumeclaims"):
        return bool(spec(old) != spec(new) or status(old) != status(new))
    return what in (("", "services"), _CLAIMS) and spec(old) != spec(new)


def _resized(pod: Object) -> list[Any]:
    """What a pod's containers have, which may not be what they want."""
    states = (each for kind in ("containerStatuses", "initContainerStatuses") for each in status(pod).get(kind) or ())
    return [(each.get("name"), each.get("resources"), each.get("allocatedResources")) for each in states]
