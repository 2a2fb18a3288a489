"""What the schema says about the ownership of a value: whole, item by item, or field by field.

A `Node` is made of a type on first use and kept by its `Nodes`. Lists without a list type are owned whole; maps and
structs field by field unless the schema calls them atomic; what the schema leaves open (`any`) goes by its content.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from tiphys.api.schema import Definitions, Field, Shape, Type


class How(IntEnum):
    """How a value is owned."""

    LEAF = 0
    """Whole: scalars, atomic lists and maps."""
    STRUCT = 1
    """Field by field, the fields being those of a type."""
    MAP = 2
    """Entry by entry."""
    SET = 3
    """A list of scalars, each of which occurs once."""
    LIST = 4
    """A list of objects that are told apart by their keys."""
    OPEN = 5
    """By its content: objects entry by entry, everything else whole."""


class Node:
    """One value's ownership. `check` says what a value must be: string, numeric, boolean, untyped, list, map, any."""

    __slots__ = ("_fields", "check", "defaults", "element", "how", "keys", "nodes", "type_name")

    def __init__(
        self,
        how: How,
        check: str,
        nodes: Nodes,
        *,
        element: Node | None = None,
        type: str = "",
        fields: dict[str, tuple[str, Node]] | None = None,
    ) -> None:
        self.how, self.check, self.nodes, self.element, self.type_name = how, check, nodes, element, type
        self.keys: tuple[str, ...] = ()
        self.defaults: dict[str, Any] = {}
        self._fields = fields

    @property
    def fields(self) -> dict[str, tuple[str, Node]]:
        """JSON name -> (path element, node), for those that have a type."""
        if self._fields is None:
            self._fields = self.nodes.fields(self.type_name) if self.type_name else {}
        return self._fields

    @property
    def open(self) -> bool:
        """Whether entries that are no field may be there."""
        return self.how is How.OPEN or self.element is not None


class Nodes:
    """Nodes of one set of definitions, by type."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._types: dict[tuple[str, bool], Node] = {}
        self._of_custom: dict[str, tuple[Any, Node]] = {}
        self.open = Node(How.OPEN, "any", self)
        self._scalars = {kind: Node(How.LEAF, check, self) for kind, check in _CHECKS.items()}

    def of(self, type: Type | None) -> Node:
        """The node of a kind's type; without a type everything goes by its content."""
        if type is not None and type.custom is not None:
            return self._custom(type)
        return self.open if type is None else self.named(type.name, atomic=type.atomic)

    def _custom(self, type: Type) -> Node:
        """The node of a custom resource: kept for as long as its type, which a change of its definition replaces."""
        found = self._of_custom.get(type.name)
        if found is None or found[0] is not type.custom:
            assert type.custom is not None, "asked for a custom type"
            found = self._of_custom[type.name] = type.custom, type.custom.node(self)
        return found[1]

    def named(self, name: str, *, atomic: bool) -> Node:
        """The node of an object type."""
        found = self._types.get((name, atomic))
        if found is None:
            how = How.LEAF if atomic else How.STRUCT
            found = self._types[name, atomic] = Node(how, "map", self, type=name)
        return found

    def fields(self, name: str) -> dict[str, tuple[str, Node]]:
        """The fields of a type."""
        fields = self._definitions.type(name).fields
        return {key: (f"f:{key}", self._field(field)) for key, field in fields.items()}

    def _field(self, field: Field) -> Node:
        shape = field.shape
        if shape.kind == "array":
            return self._array(field, shape)
        if shape.kind == "object":
            atomic = self._definitions.type(shape.type).atomic if not field.map_type else field.map_type == "atomic"
            return self.named(shape.type, atomic=atomic)
        if shape.kind == "map" and field.map_type == "atomic":
            return Node(How.LEAF, "map", self, element=self._shape(_items(shape)))
        return self._shape(shape)

    def _array(self, field: Field, shape: Shape) -> Node:
        items = self._shape(_items(shape))
        how = {"set": How.SET, "map": How.LIST}.get(field.list_type, How.LEAF)
        node = Node(how, "list", self, element=items)
        if how is How.LIST:
            node.keys = tuple(sorted(field.map_keys))
            fields = self._definitions.type(_items(shape).type).fields
            node.defaults = {
                key: fields[key].default for key in node.keys if key in fields and fields[key].default is not None
            }
        return node

    def _shape(self, shape: Shape) -> Node:
        if shape.kind == "object":
            return self.named(shape.type, atomic=self._definitions.type(shape.type).atomic)
        if shape.kind == "map":
            return Node(How.MAP, "map", self, element=self._shape(_items(shape)))
        if shape.kind == "array":
            return Node(How.LEAF, "list", self, element=self._shape(_items(shape)))
        return self.open if shape.kind == "any" else self._scalars[shape.kind]


_CHECKS = {
    "string": "string",
    "bytes": "string",
    "int32": "numeric",
    "int64": "numeric",
    "number": "numeric",
    "boolean": "boolean",
    "quantity": "untyped",
    "time": "untyped",
    "micro-time": "untyped",
    "int-or-string": "untyped",
    "raw": "any",
}


def _items(shape: Shape) -> Shape:
    assert shape.items is not None, "arrays and maps have items"
    return shape.items
