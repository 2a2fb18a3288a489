"""Empties namespaces that are being deleted, then lets them go.

Pods first, then everything else; what remains, and why, is told in the namespace's conditions. Pure:
`conditions_after`, `finalized`. The shell asks discovery what there is, deletes and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import ApiError, Gone, MethodNotAllowed, NotFound, Retry
from tiphys.client.backoff import Backoff
from tiphys.client.discovery import ApiResource, preferred_resources
from tiphys.client.informer import split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import NAMESPACES, PODS
from tiphys.client.types import Object, Resource
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, finalizers, name, namespace, spec, status

FINALIZER = "kubernetes"

_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(slots=True)
class Remains:
    """What was found after deleting: how many objects of which resource, with which finalizers, which failures."""

    counts: dict[Resource, int] = field(default_factory=dict)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    discovery: str = ""

    def add(self, resource: Resource, objects: Sequence[Object]) -> None:
        if objects:
            self.counts[resource] = len(objects)
            self.finalizers.update(each for obj in objects for each in finalizers(obj))


def problems(remains: Remains) -> dict[str, tuple[str, str]]:
    """Reason and message of each condition that is not fine."""
    found = {}
    if remains.discovery:
        found["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", remains.discovery)
    if remains.failures:
        listed = ", ".join(sorted(remains.failures))
        message = f"Failed to delete all resource types, {len(remains.failures)} remaining: {listed}"
        found["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if remains.counts:
        parts = (f"{each.plural}.{each.group} has {count} resource instances" for each, count in remains.counts.items())
        message = f"Some resources are remaining: {', '.join(sorted(parts))}"
        found["NamespaceContentRemaining"] = ("SomeResourcesRemain", message)
    if remains.finalizers:
        parts = (f"{each} in {count} resource instances" for each, count in remains.finalizers.items())
        message = f"Some content in the namespace has finalizers remaining: {', '.join(sorted(parts))}"
        found["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    return found


def conditions_after(present: Sequence[Mapping[str, Any]], remains: Remains, now: float) -> list[Mapping[str, Any]]:
    """The conditions with what `remains` says; each of the five types is there, True or False."""
    wrong = problems(remains)
    result = list(present)
    for type, fine in _FINE.items():
        value = "True" if type in wrong else "False"
        reason, message = wrong.get(type, fine)
        position = next((number for number, each in enumerate(result) if each["type"] == type), len(result))
        old = result[position] if position < len(result) else {}
        since = old["lastTransitionTime"] if old.get("status") == value else rfc3339(now)
        new = {"type": type, "status": value, "lastTransitionTime": since, "reason": reason, "message": message}
        result[position : position + 1] = [new]
    return result


def finalized(held: Object) -> dict[str, Any]:
    """The namespace without our finalizer."""
    left = [each for each in spec(held).get("finalizers") or () if each != FINALIZER]
    return {**held, "spec": {**spec(held), "finalizers": left}}


class NamespaceController(Controller):
    """Keys are namespaces."""

    name = "namespace-controller"
    account = "namespace-controller"
    workers = 10

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=0.1, limit=10.0))
        self._namespaces = self.watch(NAMESPACES)
        self._pods = self.watch(PODS)
        self._namespaces.subscribe(self._namespace_changed)
        self._pods.subscribe(self._pod_changed)

    async def reconcile(self, key: str) -> Result | None:
        _, wanted = split_key(key)
        held = self._namespaces.get("", wanted)
        if held is None or not deleting(held) or FINALIZER not in (spec(held).get("finalizers") or ()):
            return None
        remains = await self._empty(wanted)
        if remains.counts or remains.failures or remains.discovery:
            await self._report(held, remains)
            raise Retry(f"content remains in namespace {wanted}")
        await self._let_go(held, remains)
        return None

    async def _let_go(self, held: Object, remains: Remains) -> None:
        """Tell that nothing remains if something was told to remain, then finalize."""
        if status(held).get("conditions"):
            held = await self._report(held, remains)
        try:
            await self.client.update(NAMESPACES, finalized(held), subresource="finalize")
        except NotFound:
            return

    async def _report(self, held: Object, remains: Remains) -> Object:
        present = status(held).get("conditions") or ()
        conditions = conditions_after(present, remains, self.clock.time())
        if conditions == list(present) and status(held).get("phase") == "Terminating":
            return held
        new = {**status(held), "phase": "Terminating", "conditions": conditions}
        return await self.update_status(NAMESPACES, held, new)

    async def _empty(self, wanted: str) -> Remains:
        remains = Remains()
        try:
            found = await preferred_resources(self.client)
        except ApiError as error:
            remains.discovery = str(error)
            found = []
        mine = [each for each in found if each.resource.namespaced and "delete" in each.verbs]
        pods = [each for each in mine if (each.resource.group, each.resource.plural) == ("", "pods")]
        for resource in pods:
            await self._delete_all(wanted, resource, remains)
        if not remains.counts:
            for resource in mine:
                if resource not in pods:
                    await self._delete_all(wanted, resource, remains)
        return remains

    async def _delete_all(self, wanted: str, api: ApiResource, remains: Remains) -> None:
        if "list" not in api.verbs:
            return
        try:
            left = await self._list(wanted, api.resource)
            if left:
                await self._delete(wanted, api, left)
                left = await self._list(wanted, api.resource)
        except (NotFound, MethodNotAllowed):
            return
        except ApiError as error:
            remains.failures.append(str(error))
        else:
            remains.add(api.resource, left)

    async def _list(self, wanted: str, resource: Resource) -> Sequence[Object]:
        return (await self.client.list(resource, wanted)).items

    async def _delete(self, wanted: str, api: ApiResource, objects: Sequence[Object]) -> None:
        if "deletecollection" in api.verbs:
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
            await self.client.call("DELETE", api.resource.path(wanted), options)
            return
        for obj in objects:
            try:
                await self.client.delete(api.resource, name(obj), wanted, propagation="Background")
            except (NotFound, Gone):
                continue

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and deleting(new):
            self.queue.add(name(new))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """The last pod to go is what most deletions wait for."""
        if new is not None or old is None or self._pods.list(namespace(old)):
            return
        held = self._namespaces.get("", namespace(old))
        if held is not None and deleting(held):
            self.queue.add(namespace(old))
