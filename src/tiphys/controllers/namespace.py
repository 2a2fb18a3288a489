"""Empties namespaces that are being deleted, then lets them go.

Pods first, then everything else; what remains, and why, is told in the namespace's conditions (`namespace_content`).
This shell asks discovery what there is, deletes, and looks again: at once when the last pod has gone, else after a
growing delay that is never longer than upstream's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tiphys.base.errors import ApiError, MethodNotAllowed, NotFound
from tiphys.client.backoff import Backoff
from tiphys.client.discovery import ApiResource, discover
from tiphys.client.informer import split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import NAMESPACES, PODS
from tiphys.client.types import Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.namespace_content import FINALIZER, Remains, finalized, grace, new_status
from tiphys.controllers.objects import deleting, moment, name, namespace, spec, status

log = logging.getLogger(__name__)

_BACKGROUND = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
_FIRST = 0.1
"""Seconds until what has finalizers is looked at again for the first time."""


class NamespaceController(Controller):
    """Keys are namespaces."""

    name = "namespace-controller"
    account = "namespace-controller"
    workers = 10

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=0.005, limit=60.0))
        self._looks: dict[str, int] = {}
        self._namespaces = self.watch(NAMESPACES)
        self._pods = self.watch(PODS)
        self._namespaces.subscribe(self._namespace_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        _, wanted = split_key(key)
        held = self._namespaces.get("", wanted)
        if held is None or not deleting(held) or not spec(held).get("finalizers"):
            self._looks.pop(key, None)
            return None
        if self.behind(key, held):
            return None
        remains = await self._empty(held)
        held = await self._report(held, remains)
        if remains.failures or remains.discovery:
            raise ApiError("; ".join(filter(None, (*remains.failures, remains.discovery))))
        if remains.estimate:
            return Result(self._patience(key, remains.estimate))
        if FINALIZER in spec(held)["finalizers"]:
            await self._let_go(held)
        return None

    def _patience(self, key: str, estimate: int) -> float:
        """Seconds until the next look: growing, up to upstream's, which are half of the estimate and one."""
        looks = self._looks.get(key, 0)
        self._looks[key] = looks + 1
        return Backoff(_FIRST, estimate // 2 + 1.0).delay(looks)

    async def _let_go(self, held: Object) -> None:
        try:
            left = await self.client.update(NAMESPACES, finalized(held), subresource="finalize")
        except NotFound:
            return
        self._written[name(held)] = int(left["metadata"].get("resourceVersion") or 0)

    async def _report(self, held: Object, remains: Remains) -> Object:
        new = new_status(held, remains, self.clock.time())
        return held if new == status(held) else await self.update_status(NAMESPACES, held, new)

    async def _empty(self, held: Object) -> Remains:
        """Delete all there is, and see what is left."""
        remains, where = Remains(), name(held)
        found = await discover(self.client)
        if found.failure:
            failing = f"{len(found.stale)} failing: {found.failure}"
            remains.discovery = f"Discovery failed for some groups, {failing}"
        mine = [each for each in found.resources if each.resource.namespaced and "delete" in each.verbs]
        for api in mine:
            if api.resource == PODS:
                await self._clear(where, api, remains, self._grace(held))
        remains.waiting = PODS in remains.counts
        if not remains.waiting:
            for api in mine:
                if api.resource != PODS:
                    await self._clear(where, api, remains)
        return remains

    def _grace(self, held: Object) -> int:
        since = self.clock.time() - moment(held["metadata"]["deletionTimestamp"])
        return grace(self._pods.list(name(held)), since)

    async def _clear(self, where: str, api: ApiResource, remains: Remains, estimate: int = 0) -> None:
        """Delete all objects of one resource. What the server does not do with it is left out."""
        try:
            if "list" not in api.verbs:
                await self._delete(where, api, ())
                return
            left = await self._list(where, api)
            if left:
                await self._delete(where, api, left)
                left = await self._list(where, api)
        except (NotFound, MethodNotAllowed):
            return
        except (ApiError, OSError) as error:
            log.info("namespace %s: %s could not be deleted: %s", where, api.resource.plural, error)
            remains.failures.append(str(error))
        else:
            remains.add(where, api.resource, left, estimate)

    async def _list(self, where: str, api: ApiResource) -> Sequence[Object]:
        return (await self.client.list(api.resource, where)).items

    async def _delete(self, where: str, api: ApiResource, objects: Sequence[Object]) -> None:
        if "deletecollection" in api.verbs:
            try:
                await self.client.call("DELETE", api.resource.path(where), _BACKGROUND)
            except (NotFound, MethodNotAllowed):
                log.debug("%s: no such call, one by one", api.resource.plural)
            else:
                return
        for obj in objects:
            try:
                await self.client.delete(api.resource, name(obj), where, propagation="Background")
            except (NotFound, MethodNotAllowed):
                continue

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and deleting(new):
            self.queue.add(name(new))
        if new is None and old is not None:
            self._written.pop(name(old), None)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """The last pod to go is what most deletions wait for."""
        if new is not None or old is None or self._pods.count("namespace", namespace(old)):
            return
        held = self._namespaces.get("", namespace(old))
        if held is not None and deleting(held):
            self.queue.add(namespace(old))
