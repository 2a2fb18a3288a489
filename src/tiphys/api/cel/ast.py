"""The syntax tree. The parser makes the nodes, macros rearrange them, the checker writes types and overloads into them.

`offset` is the place in the source, in code points: of an operator or parenthesis for calls, of the dot for selections,
where upstream's errors point to. Chains of `&&` and `||` are one call with all their terms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from tiphys.api.cel.types import DYN, Overload, Type

AND = "_&&_"
OR = "_||_"
NOT = "!_"
CONDITIONAL = "_?_:_"
INDEX = "_[_]"
OPTIONAL_INDEX = "_[?_]"
OPTIONAL_SELECT = "_?._"
EQUALS = "_==_"
NOT_EQUALS = "_!=_"
IN = "@in"
NEGATE = "-_"
ADD = "_+_"
NOT_STRICTLY_FALSE = "@not_strictly_false"

ACCUMULATOR = "@result"
"""The accumulator of the standard macros; no expression can name it."""
UNUSED = "#unused"


@dataclass(slots=True, eq=False)
class Node:
    """Any expression."""

    offset: int
    type: Type = field(default=DYN, init=False)


@dataclass(slots=True, eq=False)
class Literal(Node):
    value: Any
    literal_type: Type


@dataclass(slots=True, eq=False)
class Ident(Node):
    name: str
    constant: Type | None = field(default=None, init=False)
    """The type that a type's name stands for."""


@dataclass(slots=True, eq=False)
class Select(Node):
    operand: Node
    name: str
    test: bool = False
    """Whether it asks for presence: `has(operand.name)`."""
    identifier: Ident | None = field(default=None, init=False)
    """Set when the whole of it turned out to be a qualified name."""


@dataclass(slots=True, eq=False)
class Call(Node):
    function: str
    target: Node | None
    args: list[Node]
    overloads: tuple[Overload, ...] = field(default=(), init=False)

    @property
    def operands(self) -> list[Node]:
        """The arguments, the receiver first."""
        return self.args if self.target is None else [self.target, *self.args]


@dataclass(slots=True, eq=False)
class ListNode(Node):
    items: list[Node]
    optional: frozenset[int] = frozenset()
    """The indices of items written `?item`."""


@dataclass(slots=True, eq=False)
class Entry:
    offset: int
    key: Node
    value: Node
    optional: bool = False


@dataclass(slots=True, eq=False)
class MapNode(Node):
    entries: list[Entry]


@dataclass(slots=True, eq=False)
class Setter:
    offset: int
    name: str
    value: Node
    optional: bool = False


@dataclass(slots=True, eq=False)
class StructNode(Node):
    name: str
    setters: list[Setter]


@dataclass(slots=True, eq=False)
class Comprehension(Node):
    """A fold over a list or a map. `kind` names its pattern, which the emitter turns into a loop:

    all, exists, exists_one, list (the step appends), map (the step inserts), bind (no loop: a local variable).
    """

    kind: str
    iterated: Node
    variable: str
    variable2: str
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


def copied(node: Any) -> Any:
    """A deep copy: macros that use an argument twice need two trees."""
    if isinstance(node, list):
        return [copied(one) for one in node]
    if isinstance(node, (Node, Entry, Setter)):
        changes = {
            item.name: copied(getattr(node, item.name))
            for item in fields(node)
            if item.init and isinstance(getattr(node, item.name), (Node, list))
        }
        return replace(node, **changes)
    return node


def children(node: Any) -> list[Node]:
    """The nodes right below one."""
    match node:
        case Select():
            return [node.operand]
        case Call():
            return node.operands
        case ListNode():
            return node.items
        case MapNode():
            return [part for entry in node.entries for part in (entry.key, entry.value)]
        case StructNode():
            return [setter.value for setter in node.setters]
        case Comprehension():
            return [node.iterated, node.initial, node.condition, node.step, node.result]
    return []


def count(node: Node) -> int:
    """How many nodes a tree has."""
    total, left = 0, [node]
    while left:
        total += 1
        left += children(left.pop())
    return total


def qualified_name(node: Node) -> str | None:
    """`a.b.c` when the expression is nothing but names."""
    names: list[str] = []
    while isinstance(node, Select) and not node.test:
        names.append(node.name)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    names.append(node.name)
    return ".".join(reversed(names))
