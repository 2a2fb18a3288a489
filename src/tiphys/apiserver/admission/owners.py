"""OwnerReferencesPermissionEnforcement: who gives an object owners must be allowed to delete it. Off by default.

Who lets it hold up the deletion of an owner must also be allowed to set the owner's finalizers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.catalog import Catalog, split_group_version
from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.types import Attributes, Authorizer, Object, Plugin, RequestInfo

SPARED = frozenset({("", "pods", "status")})
ANY = "*"


class OwnerReferencesPermissionEnforcement(Plugin):
    name = "OwnerReferencesPermissionEnforcement"

    def __init__(self, authorizer: Authorizer, catalog: Callable[[], Catalog]) -> None:
        self._authorizer, self._catalog = authorizer, catalog

    async def validate(self, attributes: Attributes) -> None:
        info, new = attributes.info, attributes.obj
        if attributes.operation not in ("CREATE", "UPDATE") or new is None or "metadata" not in new:
            return
        owners, was = _owners(new), _owners(attributes.old)
        if owners == was or (info.group, info.resource, info.subresource) in SPARED:
            return
        if attributes.operation != "CREATE":
            await self._may_delete(attributes)
        before = {one.get("uid"): one for one in was}
        blocking = [
            one
            for one in owners
            if one.get("blockOwnerDeletion") and not before.get(one.get("uid"), {}).get("blockOwnerDeletion")
        ]
        if blocking:
            await self._may_finalize(attributes, blocking)

    async def _may_delete(self, attributes: Attributes) -> None:
        info = attributes.info
        question = RequestInfo(
            "delete", "", True, info.group, info.version, info.namespace, info.resource, info.subresource, info.name
        )
        allowed, reason = await self._authorizer.authorize(attributes.user, question)
        if not allowed:
            detail = f"cannot set an ownerRef on a resource you can't delete: {reason}, <nil>"
            raise refuse(attributes, detail)

    async def _may_finalize(self, attributes: Attributes, owners: list[dict[str, Any]]) -> None:
        everything = RequestInfo("update", "", True, ANY, ANY, resource=ANY, subresource="finalizers", name=ANY)
        if (await self._authorizer.authorize(attributes.user, everything))[0]:
            return
        for owner in owners:
            allowed, reason = await self._authorizer.authorize(attributes.user, self._finalizing(attributes, owner))
            if not allowed:
                text = "if an ownerReference refers to a resource you can't set finalizers on"
                raise refuse(attributes, f"cannot set blockOwnerDeletion {text}: {reason}, <nil>")

    def _finalizing(self, attributes: Attributes, owner: Object) -> RequestInfo:
        api_version, kind = str(owner.get("apiVersion", "")), str(owner.get("kind", ""))
        found = self._catalog().of_kind(*split_group_version(api_version), kind)
        if found is None:
            text = f"because cannot find RESTMapping for APIVersion {api_version} Kind {kind}"
            detail = f'no matches for kind "{kind}" in version "{api_version}"'
            raise refuse(attributes, f"cannot set blockOwnerDeletion in this case {text}: {detail}")
        namespace = attributes.info.namespace if found.namespaced else ""
        return RequestInfo(
            "update", "", True, found.group, found.version, namespace, found.plural, "finalizers", owner.get("name", "")
        )


def _owners(obj: Object | None) -> list[dict[str, Any]]:
    return list(((obj or {}).get("metadata") or {}).get("ownerReferences") or ())
