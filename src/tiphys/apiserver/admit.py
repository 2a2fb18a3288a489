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
        return Attributes(
            info=call.info,
            user=call.user,
            operation=operation,
            kind=(resource.group, resource.version, kind or resource.kind_name),
            obj=obj,
            old=old,
            options=call.options,
            dry_run=call.dry_run,
        )

    async def admit(self, call: Call, attributes: Attributes) -> None:
        """Let the plugins change `attributes.obj`. Raises what a plugin refuses with."""
        for admit in self._admitters:
            await admit(attributes)
        self._report(call, attributes)

    async def validate(self, call: Call, attributes: Attributes) -> None:
        """Let the plugins refuse."""
        for validate in self._validators:
            await validate(attributes)
        self._report(call, attributes)

    def _report(self, call: Call, attributes: Attributes) -> None:
        if attributes.warnings:
            call.warn(*attributes.warnings)
            attributes.warnings.clear()
