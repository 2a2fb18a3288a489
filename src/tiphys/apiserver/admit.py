"""Runs the admission plugins: first all that change the object, then all that may only refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api.catalog import ResourceInfo
from tiphys.apiserver.resource import Call
from tiphys.apiserver.types import Attributes, Object, Plugin, RequestInfo
from tiphys.base.http.types import Request
from tiphys.base.identity import ANONYMOUS


class Admission:
    """The plugins in their order; those that do nothing in a phase are not called in it."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._admitters = [plugin.admit for plugin in plugins if type(plugin).admit is not Plugin.admit]
        self._validators = [plugin.validate for plugin in plugins if type(plugin).validate is not Plugin.validate]
        connecting = [plugin for plugin in plugins if plugin.connects]
        self.connects = Admission(connecting) if connecting and len(connecting) < len(plugins) else None
        """Admission of CONNECT; None: no plugin, or all of these, are asked."""

    def attributes(
        self, call: Call, operation: str, obj: dict[str, Any] | None, old: Object | None, kind: str = ""
    ) -> Attributes:
        """What the plugins are asked about; `kind` is that of a subresource's object, if it has its own."""
        resource = call.resource
        part = resource.info.subresources.get(call.info.subresource) if call.info.subresource else None
        own = (resource.group, resource.version, kind or resource.kind_name)
        return Attributes(
            info=call.info,
            user=call.user,
            operation=operation,
            kind=own if part is None else (part.group, part.version, part.kind),
            obj=obj,
            old=old,
            options=call.options,
            dry_run=call.dry_run,
            resource=resource,
        )

    async def admit(self, call: Call, attributes: Attributes) -> None:
        """Let the plugins change `attributes.obj`. Raises what a plugin refuses with."""
        if call.admitted:
            return
        await self.mutate(attributes)
        _tell(call.request, attributes)

    async def consult(self, call: Call, operation: str, obj: dict[str, Any], old: Object | None = None) -> None:
        """Both phases at once, for what is not stored itself (bindings, connections); `obj` may be changed."""
        chosen = self.connects if operation == "CONNECT" and self.connects is not None else self
        attributes = self.attributes(call, operation, obj, old)
        await chosen.admit(call, attributes)
        await chosen.validate(call, attributes)

    async def consult_review(
        self, request: Request, info: RequestInfo, resource: ResourceInfo, obj: dict[str, Any]
    ) -> None:
        """Both phases for the creation of what has no objects; `obj` may be changed."""
        kind = (resource.group, resource.version, resource.kind)
        attributes = Attributes(info, request.user or ANONYMOUS, "CREATE", kind, obj, None)
        await self.mutate(attributes)
        for validate in self._validators:
            await validate(attributes)
        _tell(request, attributes)

    async def mutate(self, attributes: Attributes) -> None:
        """All mutating plugins in order, and once more if one of them asks for it (KEP-1082)."""
        for admit in self._admitters:
            await admit(attributes)
        if attributes.reinvoke:
            attributes.round = 1
            for admit in self._admitters:
                await admit(attributes)

    async def validate(self, call: Call, attributes: Attributes) -> None:
        """Let the plugins refuse."""
        if call.admitted:
            return
        for validate in self._validators:
            await validate(attributes)
        _tell(call.request, attributes)


def _tell(request: Request, attributes: Attributes) -> None:
    """Pass on what plugins have to say besides yes and no."""
    if attributes.warnings:
        request.attributes.setdefault("warnings", []).extend(attributes.warnings)
        attributes.warnings.clear()
    if attributes.annotations:
        request.attributes.setdefault("audit-annotations", {}).update(attributes.annotations)
        attributes.annotations.clear()
