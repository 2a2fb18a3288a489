"""Runs the admission plugins: first all that change the object, then all that may only refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from tiphys.api.catalog import ResourceInfo
from tiphys.apiserver.resource import Call
from tiphys.apiserver.types import Attributes, Object, Plugin, RequestInfo
from tiphys.apiserver.webhooks.measures import Measures
from tiphys.base.http.types import Request
from tiphys.base.identity import ANONYMOUS

MOST_CHAINS = 4096
Step = Callable[[Attributes], Awaitable[None]]


class Chain(NamedTuple):
    """What is called in each phase, in order."""

    admitters: Sequence[Step]
    validators: Sequence[Step]


class Admission:
    """The plugins in their order; those that do nothing in a phase, or for a resource, are not called."""

    def __init__(self, plugins: Sequence[Plugin], measures: Measures) -> None:
        self._plugins, self.measures = plugins, measures
        self._chains: dict[tuple[str, str], Chain] = {}
        connecting = [plugin for plugin in plugins if plugin.connects]
        self.connects = Admission(connecting, measures) if connecting and len(connecting) < len(plugins) else None
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
        try:
            await self.mutate(attributes)
        finally:
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
        try:
            await self.mutate(attributes)
            await self.judge(attributes)
        finally:
            _tell(request, attributes)

    async def mutate(self, attributes: Attributes) -> None:
        """All mutating plugins in order, and once more if one of them asks for it (KEP-1082)."""
        admitters, since, rejected = self._chain(attributes).admitters, self.measures.now(), True
        try:
            for admit in admitters:
                await admit(attributes)
            if attributes.reinvoke:
                attributes.round = 1
                for admit in admitters:
                    await admit(attributes)
            rejected = False
        finally:
            self.measures.step(attributes.operation, "admit", since, rejected=rejected)

    async def validate(self, call: Call, attributes: Attributes) -> None:
        """Let the plugins refuse."""
        if call.admitted:
            return
        try:
            await self.judge(attributes)
        finally:
            _tell(call.request, attributes)

    async def judge(self, attributes: Attributes) -> None:
        """All validating plugins in order."""
        since, rejected = self.measures.now(), True
        try:
            for validate in self._chain(attributes).validators:
                await validate(attributes)
            rejected = False
        finally:
            self.measures.step(attributes.operation, "validate", since, rejected=rejected)

    def _chain(self, attributes: Attributes) -> Chain:
        """The plugins that are asked about this resource, found once for each."""
        key = (attributes.info.group, attributes.info.resource)
        chain = self._chains.get(key)
        if chain is None:
            chain = _chain(self._plugins, key)
            if len(self._chains) < MOST_CHAINS:
                self._chains[key] = chain
        return chain


def _chain(plugins: Sequence[Plugin], key: tuple[str, str]) -> Chain:
    asked = [plugin for plugin in plugins if plugin.resources is None or key in plugin.resources]
    return Chain(
        [plugin.admit for plugin in asked if type(plugin).admit is not Plugin.admit],
        [plugin.validate for plugin in asked if type(plugin).validate is not Plugin.validate],
    )


def _tell(request: Request, attributes: Attributes) -> None:
    """Pass on what plugins have to say besides yes and no."""
    if attributes.warnings:
        request.attributes.setdefault("warnings", []).extend(attributes.warnings)
        attributes.warnings.clear()
    if attributes.annotations:
        request.attributes.setdefault("audit-annotations", {}).update(attributes.annotations)
        attributes.annotations.clear()
