"""Type checking of ValidatingAdmissionPolicies: their status tells which expressions do not fit what they match.

A policy is checked once for each change of its spec; the schemas are those that the API server publishes at that time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiphys.api.catalog import group_version, split_group_version
from tiphys.api.kinds.admissionregistration.typecheck import (
    MOST_KINDS,
    Triple,
    Typed,
    builtin,
    resources,
    type_of_kind,
    warnings,
)
from tiphys.base.errors import ApiError
from tiphys.client.reconcile import Result
from tiphys.client.resources import VALIDATING_ADMISSION_POLICIES
from tiphys.client.types import APPLY_PATCH, Client, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import name, spec, status

if TYPE_CHECKING:
    from tiphys.api.cel import Type

_FIELD_MANAGER = "validatingadmissionpolicy-status"


class PolicyStatusController(Controller):
    """Keys are names of policies."""

    name = "validatingadmissionpolicy-status-controller"
    account = "validatingadmissionpolicy-status-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._policies = self.watch(VALIDATING_ADMISSION_POLICIES)
        self._policies.subscribe(self.enqueue)

    async def reconcile(self, key: str) -> Result | None:
        policy = self._policies.by_key(key)
        if policy is None:
            return None
        generation = policy["metadata"].get("generation") or 0
        if generation <= (status(policy).get("observedGeneration") or 0):
            return None
        found = await check(policy, Schemas(self.client))
        checking = {"expressionWarnings": found} if found else {}
        patch = {
            "apiVersion": policy["apiVersion"],
            "kind": policy["kind"],
            "metadata": {"name": name(policy)},
            "status": {"observedGeneration": generation, "typeChecking": checking},
        }
        await self.client.patch(
            VALIDATING_ADMISSION_POLICIES,
            name(policy),
            patch,
            type=APPLY_PATCH,
            subresource="status",
            field_manager=_FIELD_MANAGER,
            force=True,
        )
        return None


async def check(policy: Object, schemas: Schemas) -> list[dict[str, str]]:
    """The warnings of a policy."""
    kinds = [Typed(kind, found) for kind in await _kinds(policy, schemas) if (found := await schemas.of(kind))]
    params = None
    if named := spec(policy).get("paramKind"):
        kind = (*split_group_version(named.get("apiVersion") or ""), named.get("kind") or "")
        params = Typed(kind, await schemas.of(kind))
    return warnings(policy, kinds, params)


async def _kinds(policy: Object, schemas: Schemas) -> list[Triple]:
    """What the rules name and is served, in the order of the names; of one rule a few."""
    found: set[Triple] = set()
    for rule in resources(policy):
        of_rule: list[Triple] = []
        for group, version, plural in rule:
            of_rule += await schemas.kinds(group, version, plural)
            if len(of_rule) >= MOST_KINDS:
                return sorted(found | set(of_rule[:MOST_KINDS]))
        found |= set(of_rule)
    return sorted(found)


class Schemas:
    """What the API server publishes about its kinds; each document is read once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read: dict[str, Any] = {}

    async def kinds(self, group: str, version: str, plural: str) -> list[Triple]:
        """The kinds of a resource that is served; none otherwise.

        As to upstream's mapper, the core group is no group in particular: any may have the resource."""
        groups = [group] if group else ["", *await self._groups(version)]
        found: list[Triple] = []
        for each in groups:
            resources = (await self._served(each, version, needed=each == group)).get("resources") or ()
            named = [one["kind"] for one in resources if plural in (one["name"], one.get("singularName"))]
            found += [(each, version, kind) for kind in dict.fromkeys(named)]
        return found

    async def _served(self, group: str, version: str, *, needed: bool) -> Mapping[str, Any]:
        try:
            return await self._get(_path(group, version)) or {}
        except ApiError:
            if needed:
                raise
            return {}  # its server is down, and was only looked at by the way

    async def _groups(self, version: str) -> list[str]:
        """Groups that serve a version of that name."""
        listed = await self._get("/apis") or {}
        return [
            group["name"]
            for group in listed.get("groups") or ()
            if any(each.get("version") == version for each in group.get("versions") or ())
        ]

    async def of(self, kind: Triple) -> Type | None:
        """The CEL type of a kind; None when there is no schema."""
        document = builtin(kind) or await self._get(f"/openapi/v3{_path(*kind[:2])}")
        return None if document is None else type_of_kind(document, kind)

    async def _get(self, path: str) -> Any:
        if path not in self._read:
            try:
                self._read[path] = await self._client.call("GET", path)
            except ApiError as error:
                if error.code < 400 or error.code >= 500:
                    raise
                self._read[path] = None
        return self._read[path]


def _path(group: str, version: str) -> str:
    return f"/apis/{group_version(group, version)}" if group else f"/api/{version}"
