"""Runs the admission plugins: first all that change the object, then all that may only refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.apiserver.resource import Call
from tiphys.apiserver.types import Attributes, Object, Plugin


class Admission:
    """The plugins in their order; those that do nothing in a phase are not called in it."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._admitters = [plugin.admit for plugin in plugins if type(plugin).admit is not Plugin.admit]
        self._validators = [plugin.validate for plugin in plugins if type(plugin).validate is not Plugin.validate]

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
        await self.mutate(attributes)
        self._report(call, attributes)

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
        for validate in self._validators:
            await validate(attributes)
        self._report(call, attributes)

    def _report(self, call: Call, attributes: Attributes) -> None:
        if attributes.warnings:
            call.warn(*attributes.warnings)
            attributes.warnings.clear()
        if attributes.annotations:
            call.request.attributes.setdefault("audit-annotations", {}).update(attributes.annotations)
            attributes.annotations.clear()
