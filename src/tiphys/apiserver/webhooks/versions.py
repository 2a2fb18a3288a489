"""The object of a request in the version that a webhook wants to see, and back again after it was changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.apply.nodes import Node, Nodes
from tiphys.api.catalog import Catalog, group_version, split_group_version
from tiphys.api.decode.objects import DecodeError
from tiphys.api.decode.request import Codec
from tiphys.api.decode.strict import unknown_fields
from tiphys.api.schema import Type
from tiphys.apiserver import creating
from tiphys.apiserver.resource import Resource
from tiphys.apiserver.serving import Serving
from tiphys.apiserver.types import Object
from tiphys.apiserver.webhooks.matching import Match, Triple
from tiphys.base.errors import InternalError


class Versions:
    """Conversions between the versions of what is served."""

    def __init__(self, serving: Serving, codec: Codec) -> None:
        self._serving, self._codec = serving, codec
        self._nodes: dict[Triple, tuple[Type | None, Triple, Node]] = {}

    def catalog(self) -> Catalog:
        """What is served now."""
        return self._serving.catalog

    async def show(self, obj: Object | None, match: Match) -> Object | None:
        """`obj` as of `match.kind`; shared, never change it."""
        if obj is None:
            return None
        wanted = group_version(*match.kind[:2])
        resource = self._resource(match)
        if resource is None:
            return {**obj, "kind": match.kind[2], "apiVersion": wanted}
        if obj.get("apiVersion") == wanted:
            return obj
        return await resource.adapt(obj)

    async def take(self, patched: Mapping[str, Any], match: Match, like: Object) -> dict[str, Any]:
        """A changed object as the server works with it: decoded, defaulted, in the version of `like`.

        Raises InternalError for what is no object of its kind any more."""
        wanted = group_version(*match.kind[:2])
        if (patched.get("apiVersion"), patched.get("kind")) != (wanted, match.kind[2]):
            raise internal(f'no kind "{patched.get("kind")}" is registered for version "{patched.get("apiVersion")}"')
        resource = self._resource(match)
        codec = (resource.codec if resource is not None else None) or self._codec
        type = resource.expected.type if resource is not None else codec.definitions.of(*match.kind)
        try:
            obj = codec.normalize(patched, type)
        except DecodeError as error:
            raise internal(str(error)) from error
        obj["apiVersion"], obj["kind"] = wanted, match.kind[2]
        if resource is None:
            return obj
        obj = creating.to_stored(resource, obj)
        if resource.custom and obj["apiVersion"] != like["apiVersion"]:
            own = self._serving.resources[(*split_group_version(like["apiVersion"]), match.resource[2])]
            return dict(await own.adapt(obj))
        return obj

    def check_fields(self, obj: Object, match: Match) -> None:
        """A built-in kind's object must have no fields that its schema has not. Raises InternalError."""
        resource = self._resource(match)
        definitions = self._codec.definitions
        type = definitions.of(*match.kind)
        if type is None or (resource is not None and resource.custom):
            return
        if found := unknown_fields(obj, type, definitions):
            raise internal("strict decoding error: " + ", ".join(f'unknown field "{path}"' for path in found))

    def node(self, match: Match) -> Node:
        """What the schema says about merging objects of `match.kind`."""
        resource = self._resource(match)
        codec = (resource.codec if resource is not None else None) or self._codec
        type = resource.expected.type if resource is not None else codec.definitions.of(*match.kind)
        known = self._nodes.get(match.resource)
        if known is None or known[0] is not type or known[1] != match.kind:
            known = self._nodes[match.resource] = type, match.kind, Nodes(codec.definitions).of(type)
        return known[2]

    def _resource(self, match: Match) -> Resource | None:
        """The resource whose own objects these are; None for subresources with a kind of their own."""
        resource = self._serving.resources.get(match.resource)
        return resource if resource is not None and resource.kind_name == match.kind[2] else None


def internal(text: str) -> InternalError:
    """500 in upstream's words."""
    return InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})
