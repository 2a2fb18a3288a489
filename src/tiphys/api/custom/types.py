"""The type of a custom resource, as decoding and server-side apply see it (`schema.Type.custom`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson

from tiphys.api.apply.nodes import Node, Nodes
from tiphys.api.custom import embedded
from tiphys.api.custom.ownership import node_of
from tiphys.api.custom.pruning import Prune, keep_all, pruner, unknown_fields
from tiphys.api.custom.publishing import Published, PublishedList
from tiphys.api.custom.schemas import EMBEDDED, EMPTY, Schema
from tiphys.api.decode.objects import Pass
from tiphys.api.schema import Type


class CustomShape:
    """How objects of one schema are decoded. None as a schema: nothing is known of them."""

    def __init__(self, schema: Schema | None, published: Published, *, keeps_unknown: bool) -> None:
        self._schema, self._keeps, self._published = schema, keeps_unknown, published

    @property
    def published(self) -> Published:
        """How it shows in OpenAPI documents."""
        return self._published

    def __repr__(self) -> str:
        """The same for the same schema: the hashes of OpenAPI documents are made of it."""
        return hashlib.sha256(orjson.dumps(self.published.document("", v3=True))).hexdigest()

    @cached_property
    def _prune(self) -> Prune:
        if self._keeps:
            return keep_all
        return pruner({**(self._schema or EMPTY), EMBEDDED: True}, embedded.coerce)

    def decode(self, value: Mapping[str, Any], state: Pass) -> dict[str, Any]:
        """Unknown fields pruned, metadata in canonical form; a new object. Raises DecodeError."""
        rest = {name: item for name, item in value.items() if name != "metadata"}
        out: dict[str, Any] = self._prune(rest, state)
        if "metadata" in value:
            state.keys += 1
            out = {"metadata": embedded.decode_metadata(value["metadata"], state), **out}
        return out

    def unknown_fields(self, value: Mapping[str, Any]) -> list[str]:
        """The paths of what decoding leaves out."""
        found = embedded.unknown_metadata(value.get("metadata"))
        if self._keeps:
            return found
        inner = embedded.unknown_inner_metadata(self._schema, value)
        return [*found, *unknown_fields(value, self._schema), *inner]

    def node(self, nodes: Nodes) -> Node:
        """What server-side apply knows."""
        return node_of(self._schema, nodes)


def custom_type(
    name: str, kind: tuple[str, str, str], schema: Schema | None, selectable: Sequence[str], *, keeps_unknown: bool
) -> Type:
    """The type of a custom resource; `kind` is (group, version, kind), `selectable` paths of selectable fields."""
    published = Published(kind, schema, selectable, keeps_unknown=keeps_unknown)
    return Type(name, {}, kinds=(kind,), custom=CustomShape(schema, published, keeps_unknown=keeps_unknown))


def list_type(name: str, kind: tuple[str, str, str], item: Type, plural: str, selectable: Sequence[str]) -> Type:
    """The type of the list of a custom resource."""
    published = PublishedList(kind, item, plural, selectable)
    return Type(name, {}, kinds=(kind,), custom=CustomShape(None, published, keeps_unknown=True))
