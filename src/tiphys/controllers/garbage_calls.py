"""What garbage collection asks of the server: is it there, delete it, cut its references, let it go.

Nothing here decides. A deletion is bound to the uid, and to the revision that was judged unless only other things than
owners have changed since. Cutting references is one strategic patch for kinds that have it, else a merge patch.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

from tiphys.base.errors import ApiError, Conflict, NotFound, Permanent, Retry, UnsupportedMediaType
from tiphys.client.discovery import ApiResource
from tiphys.client.types import MERGE_PATCH, STRATEGIC_PATCH, Client, Object, Resource
from tiphys.controllers.objects import deleting, finalizers, uid
from tiphys.controllers.owner_graph import FOREGROUND, Coordinates, Node, Owner, OwnerState

_REMEMBERED = 5000
_AT_ONCE = 50

References = list[dict[str, object]]


class GarbageCalls:
    """See the module's docstring. `kinds` are the resources by (apiVersion, kind)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.kinds: dict[tuple[str, str], ApiResource] = {}
        self._absent: OrderedDict[Coordinates, None] = OrderedDict()

    def gone(self, where: Coordinates) -> None:
        """Remember that nothing is there; uids never come back."""
        self._absent[where] = None
        while len(self._absent) > _REMEMBERED:
            self._absent.popitem(last=False)

    def absent(self, owner: Owner, namespace: str) -> bool:
        """Whether it is known that this owner does not exist, in that namespace or outside of all."""
        return any(
            Coordinates(owner.api_version, owner.kind, where, owner.name, owner.uid) in self._absent
            for where in {"", namespace}
        )

    async def live(self, node: Node) -> Object | None:
        """The object as it is, or None if it is gone or another one has its name."""
        try:
            live = await self._client.get(node.resource, node.name, node.namespace)
        except NotFound:
            return None
        return live if uid(live) == node.uid else None

    async def look_up(self, where: Coordinates) -> OwnerState:
        """How an owner is. Raises Retry if its kind is unknown, Permanent if it cannot be an owner from there."""
        api = self.kinds.get((where.api_version, where.kind)) or await self._kind(where.api_version, where.kind)
        if api.resource.namespaced and not where.namespace:
            raise Permanent("cluster-scoped objects cannot refer to namespaced owners")
        namespace = where.namespace if api.resource.namespaced else ""
        try:
            live = await self._client.get(api.resource, where.name, namespace)
        except NotFound:
            live = None
        if live is None or uid(live) != where.uid:
            self.gone(Coordinates(where.api_version, where.kind, namespace, where.name, where.uid))
            return OwnerState.DANGLING
        waiting = deleting(live) and FOREGROUND in finalizers(live)
        return OwnerState.WAITING if waiting else OwnerState.SOLID

    async def _kind(self, api_version: str, kind: str) -> ApiResource:
        """The resource of an owner whose version is not its group's preferred one, or that is new."""
        group, _, version = api_version.rpartition("/")
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            listing = await self._client.call("GET", path)
        except NotFound:
            listing = {}
        for entry in listing.get("resources") or ():
            if entry["kind"] == kind and "/" not in entry["name"]:
                resource = Resource(group, version, entry["name"], bool(entry.get("namespaced")))
                found = ApiResource(resource, kind, frozenset(entry.get("verbs") or ()))
                self.kinds[api_version, kind] = found
                return found
        raise Retry(f"unable to get REST mapping for {api_version}/{kind}.")

    async def delete(self, node: Node, seen: Object, propagation: str) -> bool:
        """Delete what was judged as it was in `seen`; False if its owners have changed meanwhile."""
        try:
            await self._delete(node, propagation, str(seen["metadata"].get("resourceVersion") or ""))
        except Conflict:
            live = await self.live(node)
            if live is None:
                return True
            if live["metadata"].get("ownerReferences") != seen["metadata"].get("ownerReferences"):
                return False
            await self._delete(node, propagation, "")
        return True

    async def _delete(self, node: Node, propagation: str, revision: str) -> None:
        try:
            await self._client.delete(
                node.resource,
                node.name,
                node.namespace,
                propagation=propagation,
                uid=node.uid,
                resource_version=revision,
            )
        except NotFound:
            return

    async def drop_references(self, node: Node, owners: Iterable[str]) -> None:
        """Take the references to these uids out of an object; those that are not there are no fault."""
        gone = sorted(set(owners))
        cut: References = [{"$patch": "delete", "uid": each} for each in gone]

        def left(references: References) -> References | None:
            return [each for each in references if each["uid"] not in gone] or None

        await self._refer(node, cut, left)

    async def unblock(self, node: Node) -> None:
        """Two that wait for each other: this one does not block its owners any more."""
        freed: References = [{"uid": each.uid, "blockOwnerDeletion": False} for each in node.owners if each.blocks]
        if not freed:
            return

        def left(references: References) -> References | None:
            return [{**each, "blockOwnerDeletion": False} for each in references]

        await self._refer(node, freed, left)

    async def _refer(self, node: Node, strategic: References, left: Callable[[References], References | None]) -> None:
        patch = {"metadata": {"ownerReferences": strategic, "uid": node.uid}}
        try:
            await self._client.patch(node.resource, node.name, patch, node.namespace, type=STRATEGIC_PATCH)
        except UnsupportedMediaType:
            live = await self.live(node)
            if live is None:
                return
            references = list(live["metadata"].get("ownerReferences") or ())
            new = left(references)
            if (new or []) != references:
                await self._merge(node, live, {"ownerReferences": new})

    async def remove_finalizer(self, node: Node, finalizer: str) -> None:
        """Let an object go, as far as this finalizer holds it."""
        live = await self.live(node)
        if live is not None and finalizer in finalizers(live):
            await self._merge(node, live, {"finalizers": [each for each in finalizers(live) if each != finalizer]})

    async def _merge(self, node: Node, live: Object, meta: dict[str, object]) -> None:
        patch = {"metadata": {"resourceVersion": live["metadata"].get("resourceVersion"), "uid": node.uid, **meta}}
        await self._client.patch(node.resource, node.name, patch, node.namespace, type=MERGE_PATCH)

    async def orphan(self, owner: str, dependents: list[Node]) -> None:
        """Set dependents free, several at once. Raises the first failure after all have been tried."""
        failures: list[ApiError | OSError] = []

        async def free(node: Node) -> None:
            try:
                await self.drop_references(node, [owner])
            except NotFound:
                return
            except (ApiError, OSError) as error:
                failures.append(error)

        for start in range(0, len(dependents), _AT_ONCE):
            async with asyncio.TaskGroup() as tasks:
                for node in dependents[start : start + _AT_ONCE]:
                    tasks.create_task(free(node))
        if failures:
            raise failures[0]
