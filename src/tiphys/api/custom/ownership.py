"""Who may own what in a custom resource: the nodes of server-side apply, made from its schema (KEP-555).

Upstream makes them of the published OpenAPI document; what a schema leaves open goes by its content.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.apply.nodes import How, Node, Nodes
from tiphys.api.custom.schemas import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_KEYS,
    LIST_TYPE,
    MAP_TYPE,
    PRESERVE,
    Schema,
    allows_extra,
    extra,
    items,
    properties,
)
from tiphys.api.schema import OBJECT_META

_SCALARS = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}


def node_of(schema: Schema | None, nodes: Nodes) -> Node:
    """The node of a resource with this schema."""
    if schema is None:
        return nodes.open
    return _node({**schema, EMBEDDED: True}, nodes)


def _node(schema: Schema | None, nodes: Nodes) -> Node:
    if schema is None:
        return nodes.open
    if schema.get(INT_OR_STRING):
        return Node(How.LEAF, "untyped", nodes)
    kind = schema.get("type") or ""
    if kind in _SCALARS:
        return Node(How.LEAF, _SCALARS[kind], nodes)
    if kind == "array":
        return _list(schema, nodes)
    return _object(schema, nodes) if kind == "object" else nodes.open


def _list(schema: Schema, nodes: Nodes) -> Node:
    how = {"set": How.SET, "map": How.LIST}.get(schema.get(LIST_TYPE) or "", How.LEAF)
    item = items(schema)
    node = Node(how, "list", nodes, element=_node(item, nodes))
    if how is How.LIST:
        node.keys = tuple(sorted(schema.get(LIST_KEYS) or ()))
        node.defaults = _defaults(item or {}, node.keys)
    return node


def _defaults(item: Schema, keys: tuple[str, ...]) -> dict[str, Any]:
    found = {key: properties(item).get(key, {}).get("default") for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _object(schema: Schema, nodes: Nodes) -> Node:
    fields = {name: (f"f:{name}", _node(part, nodes)) for name, part in properties(schema).items()}
    embedded = bool(schema.get(EMBEDDED))
    if embedded and (fields or not schema.get(PRESERVE)):
        text = Node(How.LEAF, "string", nodes)
        fields |= {name: (f"f:{name}", text) for name in ("apiVersion", "kind")}
        fields["metadata"] = ("f:metadata", nodes.named(OBJECT_META, atomic=False))
    other: Node | None = None
    if allows_extra(schema):
        other = _node(extra(schema), nodes)
    elif schema.get(PRESERVE) or not fields:
        other = nodes.open
    atomic = schema.get(MAP_TYPE) == "atomic"
    how = How.LEAF if atomic else How.STRUCT if fields else How.MAP
    return Node(how, "map", nodes, element=other, fields=fields)
