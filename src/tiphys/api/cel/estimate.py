"""What an expression may cost, from its tree and the sizes that the variables' types allow.

Sizes come from the expression (literals, concatenations), else from the schema of the path a value was read by. The
path leads through the types of the variables: field names, and `@items`, `@keys`, `@values` for what is in lists and
maps; macro variables carry the path of their range. Rules: cel-go, checker/cost.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.cel import ast
from tiphys.api.cel.costs import LIST, MAP, MAX, ONE, STRUCT, UNBOUNDED, ZERO, CallEstimate, Range
from tiphys.api.cel.types import Overload, Type

_SCALAR = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))

Path = tuple[str, ...]


def estimated(node: ast.Node, variables: Mapping[str, Type]) -> Range:
    """The least and most cost of a checked tree."""
    return _Estimator(variables).cost(node)


@dataclass(slots=True)
class _Entry:
    """Sizes of the keys and values of a container."""

    container: str
    key: Range
    value: Range

    def union(self, other: _Entry) -> _Entry:
        return _Entry(self.container, self.key.union(other.key), self.value.union(other.value))


@dataclass(slots=True)
class _Local:
    """A macro's variable."""

    path: Path
    size: Range | None
    entry: _Entry | None = None


class _Argument:
    """A node as functions' estimates see it."""

    def __init__(self, estimator: _Estimator, node: ast.Node) -> None:
        self._estimator = estimator
        self._node = node
        self.type = node.type
        self.literal = node.value if isinstance(node, ast.Literal) else None
        self.known_size = estimator.size(node)

    @property
    def size(self) -> Range:
        return UNBOUNDED if self.known_size is None else self.known_size

    def items(self) -> _Items | None:
        if not self.type.parameters:
            return None
        return _Items(self._estimator, self.type.parameters[0], self._estimator.path(self._node))


class _Items:
    """The items of an argument that is a list."""

    literal = None

    def __init__(self, estimator: _Estimator, one: Type, path: Path) -> None:
        self.type = one
        self._estimator = estimator
        self._path = (*path, "@items") if path else ()

    @property
    def known_size(self) -> Range | None:
        return None

    @property
    def size(self) -> Range:
        found = self._estimator.schema_size(self._path)
        return UNBOUNDED if found is None else found

    def items(self) -> _Items | None:
        if not self.type.parameters:
            return None
        return _Items(self._estimator, self.type.parameters[0], self._path)


def _scalar(one: Type) -> bool:
    if one.kind == "opaque" and one.name == "optional_type":
        return _scalar(one.parameters[0])
    return one.kind in _SCALAR


def _literal_size(node: ast.Node) -> Range | None:
    match node:
        case ast.Literal():
            size = len(node.value) if isinstance(node.value, (str, bytes)) else 1
        case ast.ListNode():
            size = len(node.items)
        case ast.MapNode():
            size = len(node.entries)
        case _:
            return None
    return Range(size, size)


class _Estimator:
    def __init__(self, variables: Mapping[str, Type]) -> None:
        self._variables = variables
        self._locals: list[tuple[str, _Local]] = []
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Range] = {}
        self._entries: dict[int, _Entry] = {}

    # Paths and sizes

    def _local(self, name: str) -> _Local | None:
        for known, local in reversed(self._locals):
            if known == name:
                return local
        return None

    def path(self, node: ast.Node) -> Path:
        """How the value was reached; empty when it was made in the expression."""
        if isinstance(node, ast.Select) and node.identifier is not None:
            node = node.identifier
        if isinstance(node, ast.Ident):
            local = self._local(node.name)
            if local is not None:
                return local.path
        return self._paths.get(id(node), ())

    def schema_size(self, path: Path) -> Range | None:
        """What the variables' types say of the size at a path."""
        if not path:
            return None
        # Upstream starts every path at `self`, whatever name it begins with: also the name of a type.
        one = self._variables.get(path[0]) or self._variables.get("self")
        for part in path[1:]:
            if one is None:
                return None
            one = _step(one, part)
        if one is None or one.max_size is None:
            return None
        return Range(0, one.max_size)

    def size(self, node: ast.Node) -> Range | None:
        known = self._sizes.get(id(node)) or _literal_size(node)
        if known is not None:
            return known
        found = self.schema_size(self.path(node))
        if found is not None:
            self._sizes[id(node)] = found
            return found
        if _scalar(node.type):
            return ONE
        local = self._local(node.name) if isinstance(node, ast.Ident) else None
        return None if local is None else local.size

    def _size_or_unbounded(self, node: ast.Node) -> Range:
        size = self.size(node)
        return UNBOUNDED if size is None else size

    def _entry(self, node: ast.Node) -> _Entry | None:
        known = self._entries.get(id(node))
        if known is None and isinstance(node, ast.Ident):
            local = self._local(node.name)
            return None if local is None else local.entry
        return known

    def _copy_sizes(self, target: ast.Node, source: ast.Node) -> None:
        size, entry = self.size(source), self._entry(source)
        if size is not None:
            self._sizes[id(target)] = size
        if entry is not None:
            self._entries[id(target)] = entry

    # Costs

    def cost(self, node: Any) -> Range:
        match node:
            case ast.Literal():
                return ZERO
            case ast.Ident():
                local = self._local(node.name)
                self._paths[id(node)] = (node.name,) if local is None else local.path
                return ONE
            case ast.Select():
                return self._select(node)
            case ast.Call():
                return self._call(node)
            case ast.ListNode():
                return self._list(node)
            case ast.MapNode():
                return self._map(node)
            case ast.StructNode():
                return self._sum([setter.value for setter in node.setters]).plus(Range(STRUCT, STRUCT))
        return self._bind(node) if node.kind == "bind" else self._fold(node)

    def _sum(self, nodes: list[ast.Node]) -> Range:
        total = ZERO
        for node in nodes:
            total = total.plus(self.cost(node))
        return total

    def _select(self, node: ast.Select) -> Range:
        if node.identifier is not None:
            return self.cost(node.identifier)
        total = self.cost(node.operand)
        if node.test:
            return total
        if node.operand.type.kind in ("map", "object", "type_param"):
            total = total.plus(ONE)
        self._paths[id(node)] = (*self.path(node.operand), node.name)
        return total

    def _list(self, node: ast.ListNode) -> Range:
        total = Range(LIST, LIST)
        sizes = Range(MAX if node.items else 0, 0)
        for item in node.items:
            total = total.plus(self.cost(item))
            sizes = sizes.union(self._size_or_unbounded(item))
        self._entries[id(node)] = _Entry("list", ONE, sizes)
        return total

    def _map(self, node: ast.MapNode) -> Range:
        total = Range(MAP, MAP)
        keys = values = Range(MAX if node.entries else 0, 0)
        for entry in node.entries:
            total = total.plus(self.cost(entry.key)).plus(self.cost(entry.value))
            keys = keys.union(self._size_or_unbounded(entry.key))
            values = values.union(self._size_or_unbounded(entry.value))
        self._entries[id(node)] = _Entry("map", keys, values)
        return total

    def _call(self, node: ast.Call) -> Range:
        if node.function == "dyn" and node.target is None:
            total = self.cost(node.args[0]).plus(ONE)
            self._copy_sizes(node, node.args[0])
            return total
        costs = [self.cost(argument) for argument in node.args]
        total = ZERO if node.target is None else self.cost(node.target)
        if not node.overloads:
            # Only optional selection has no overload; upstream knows one for it and counts 1.
            return total.plus(_total(costs)).plus(ONE)
        function = Range(MAX, 0)
        result: Range | None = None
        arguments = [_Argument(self, one) for one in node.operands]
        for overload in node.overloads:
            estimate = self._function(node, overload, arguments, costs)
            function = function.union(estimate.cost)
            result = self._result_size(node, overload, estimate.size, result)
        if result is not None:
            self._sizes[id(node)] = result
        return total.plus(function)

    def _result_size(
        self, node: ast.Call, overload: Overload, estimate: Range | None, result: Range | None
    ) -> Range | None:
        if estimate is not None:
            result = estimate if result is None else result.union(estimate)
        if overload.id in ("index_list", "index_map"):
            entry = self._entry(node.args[0])
            result = None if entry is None else entry.value
            step = "@items" if overload.id == "index_list" else "@values"
            self._paths[id(node)] = (*self.path(node.args[0]), step)
        return self.size(node) if result is None else result

    def _function(
        self, node: ast.Call, overload: Overload, arguments: list[_Argument], costs: list[Range]
    ) -> CallEstimate:
        if node.function in (ast.AND, ast.OR):
            return CallEstimate(Range(costs[0].minimum, _total(costs).maximum))
        if node.function == ast.CONDITIONAL:
            return self._conditional(node, costs)
        if node.function == ast.ADD:
            self._joined_entries(node)
        given = _total(costs)
        opaque = _opaque_equality(node, arguments)
        if opaque is not None:
            return CallEstimate(opaque.plus(given))
        if overload.estimate is not None:
            estimate = overload.estimate(arguments)
            if estimate is not None:
                return CallEstimate(estimate.cost.plus(given), estimate.size)
        return CallEstimate(ONE.plus(given))

    def _conditional(self, node: ast.Call, costs: list[Range]) -> CallEstimate:
        _, then, other = node.args
        size = self._size_or_unbounded(then).union(self._size_or_unbounded(other))
        first, second = self._entry(then), self._entry(other)
        if first is not None and second is not None:
            self._entries[id(node)] = first.union(second)
        return CallEstimate(costs[0].plus(costs[1].union(costs[2])), size)

    def _joined_entries(self, node: ast.Call) -> None:
        first, second = self._entry(node.args[0]), self._entry(node.args[1])
        if first is not None and second is not None:
            self._entries[id(node)] = first.union(second)

    def _fold(self, node: ast.Comprehension) -> Range:
        total = self.cost(node.iterated).plus(self.cost(node.initial))
        before = len(self._locals)
        self._declare(node.accumulator, node.initial)
        accumulated = len(self._locals)
        self._declare_variables(node)
        loop = self.cost(node.condition)
        step = self.cost(node.step)
        del self._locals[accumulated:]
        total = total.plus(self.cost(node.result))
        del self._locals[before:]
        count = self._size_or_unbounded(node.iterated)
        total = total.plus(count.times(step.plus(loop)))
        if isinstance(node.initial, ast.Literal):
            size = self.size(node.initial)
            if size is not None:
                self._sizes[id(node)] = size
        else:
            self._sizes[id(node)] = count
            entry = self._entry(node.step)
            if entry is not None:
                self._entries[id(node)] = entry
        return total

    def _bind(self, node: ast.Comprehension) -> Range:
        total = self.cost(node.iterated).plus(self.cost(node.initial))
        before = len(self._locals)
        self._declare(node.accumulator, node.initial)
        total = total.plus(self.cost(node.result))
        self._copy_sizes(node, node.result)
        del self._locals[before:]
        return total

    def _declare(self, name: str, node: ast.Node) -> None:
        self._locals.append((name, _Local(self.path(node), self.size(node), self._entry(node))))

    def _declare_variables(self, node: ast.Comprehension) -> None:
        entry, path = self._entry(node.iterated), self.path(node.iterated)
        container = node.iterated.type.kind if entry is None else entry.container
        is_list = container == "list"
        key, value = (None, None) if entry is None else (entry.key, entry.value)
        keys = ((*path, "@indices" if is_list else "@keys"), key)
        values = ((*path, "@items" if is_list else "@values"), value)
        if node.variable2:
            self._locals.append((node.variable, _Local(*keys)))
            self._locals.append((node.variable2, _Local(*values)))
        else:
            self._locals.append((node.variable, _Local(*(values if is_list else keys))))


def _total(costs: list[Range]) -> Range:
    total = ZERO
    for cost in costs:
        total = total.plus(cost)
    return total


def _opaque_equality(node: ast.Call, arguments: list[_Argument]) -> Range | None:
    """Values of libraries say themselves what comparing them costs."""
    if node.function != ast.EQUALS or arguments[0].type != arguments[1].type:
        return None
    return arguments[0].type.equality


def _step(one: Type, part: str) -> Type | None:
    """The type one step further along a path."""
    match part:
        case "@items" if one.kind == "list":
            return one.parameters[0]
        case "@values" if one.kind == "map":
            return one.parameters[1]
        case "@keys" if one.kind == "map":
            return one.parameters[0]
    if one.kind == "opaque" and one.name == "optional_type":
        one = one.parameters[0]
    field = (one.fields or {}).get(part)
    return None if field is None else field.type
