"""The type checker: gives every node its type and every call its overloads, or reports what does not fit.

The order of the checks, the messages and the places they point to are upstream's (cel-go, checker/checker.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiphys.api.cel import ast
from tiphys.api.cel.source import Source
from tiphys.api.cel.types import (
    BOOL,
    DYN,
    ERROR,
    INT,
    Function,
    Overload,
    Type,
    list_of,
    map_of,
    optional,
    type_of_type,
    type_parameter,
)
from tiphys.api.cel.unify import Bindings, assignable, is_dyn, is_dyn_or_error, most_general, substituted

if TYPE_CHECKING:
    from tiphys.api.cel.environment import Environment


def check(environment: Environment, source: Source, node: ast.Node) -> None:
    """Type the tree in place. Errors are in `source` afterwards."""
    checker = _Checker(environment, source)
    checker.check(node)
    checker.settle()


def _unwrapped(one: Type) -> tuple[Type, bool]:
    if one.kind == "opaque" and one.name == "optional_type":
        return one.parameters[0], True
    return one, False


def signature(types: list[Type], *, member: bool) -> str:
    if member:
        return f"{types[0]}.({', '.join(map(str, types[1:]))})"
    return f"({', '.join(map(str, types))})"


class _Checker:
    def __init__(self, environment: Environment, source: Source) -> None:
        self._environment = environment
        self._source = source
        self._bindings: Bindings = {}
        self._scopes: list[dict[str, Type]] = [dict(environment.variables)]
        self._free = 0
        self._typed: list[ast.Node] = []

    def settle(self) -> None:
        """Replace what is still open in the types of all nodes."""
        for node in self._typed:
            node.type = substituted(self._bindings, node.type, free_to_dyn=True)

    def check(self, node: ast.Node) -> Type:
        method = self._METHODS[type(node)]
        node.type = method(self, node)
        self._typed.append(node)
        return node.type

    # Helpers

    def _report(self, offset: int, message: str) -> Type:
        self._source.report(offset, message)
        return ERROR

    def _mismatch(self, offset: int, expected: Type, actual: Type) -> Type:
        return self._report(offset, f"expected type '{expected}' but found '{actual}'")

    def _assign(self, expected: Type, actual: Type) -> bool:
        bindings = assignable(self._bindings, [expected], [actual])
        if bindings is None:
            return False
        self._bindings = bindings
        return True

    def _resolved(self, one: Type) -> Type:
        return substituted(self._bindings, one)

    def _new_parameter(self) -> Type:
        self._free += 1
        return type_parameter(f"_var{self._free - 1}")

    def _lookup(self, name: str) -> tuple[Type, Type | None] | None:
        """The type of a name, and the type it names when it is a type's name."""
        if name.startswith("."):
            name, scopes = name[1:], self._scopes[:1]
        else:
            scopes = self._scopes
        for scope in reversed(scopes):
            if name in scope:
                return scope[name], None
        named = self._environment.types.get(name)
        if named is None and self._environment.resolve is not None:
            named = self._environment.resolve(name)
        return None if named is None else (type_of_type(named), named)

    def _function(self, name: str) -> Function | None:
        return self._environment.functions.get(name.removeprefix("."))

    def _undeclared(self, offset: int, name: str) -> Type:
        return self._report(offset, f"undeclared reference to '{name}' (in container '')")

    # Nodes

    def _literal(self, node: ast.Literal) -> Type:
        return node.literal_type

    def _ident(self, node: ast.Ident) -> Type:
        found = self._lookup(node.name)
        if found is None:
            return self._undeclared(node.offset, node.name)
        node.name = node.name.removeprefix(".")
        node.constant = found[1]
        return found[0]

    def _select(self, node: ast.Select) -> Type:
        name = None if node.test else ast.qualified_name(node)
        found = None if name is None else self._lookup(name)
        if name is not None and found is not None:
            node.identifier = ast.Ident(node.offset, name.removeprefix("."))
            node.identifier.type, node.identifier.constant = found
            return found[0]
        result = self._field(node.offset, node.operand, node.name, opt=False)
        return BOOL if node.test else self._resolved(result)

    def _field(self, offset: int, operand: ast.Node, name: str, *, opt: bool) -> Type:
        target, was_optional = _unwrapped(self._resolved(self.check(operand)))
        result = ERROR
        match target.kind:
            case "map":
                result = target.parameters[1]
            case "object":
                result = self._field_type(offset, target, name)
            case "type_param":
                self._assign(DYN, target)
                result = DYN
            case _:
                if not is_dyn_or_error(target):
                    self._report(offset, f"type '{target}' does not support field selection")
                result = DYN
        return optional(result) if was_optional or opt else result

    def _field_type(self, offset: int, target: Type, name: str) -> Type:
        field = None if target.fields is None else target.fields.get(name)
        return self._report(offset, f"undefined field '{name}'") if field is None else field.type

    def _call(self, node: ast.Call) -> Type:
        if node.function == ast.OPTIONAL_SELECT:
            return self._optional_select(node)
        for argument in node.args:
            self.check(argument)
        if node.target is None:
            function = self._function(node.function)
            if function is None:
                return self._undeclared(node.offset, node.function)
            node.function = function.name
            return self._overload(node, function)
        prefix = ast.qualified_name(node.target)
        if prefix is not None:
            function = self._function(f"{prefix}.{node.function}")
            if function is not None:
                node.target, node.function = None, function.name
                return self._overload(node, function)
        self.check(node.target)
        function = self._function(node.function)
        if function is None:
            return self._undeclared(node.offset, node.function)
        return self._overload(node, function)

    def _optional_select(self, node: ast.Call) -> Type:
        name = node.args[1]
        if not isinstance(name, ast.Literal):
            return self._report(node.offset, "unsupported optional field selection")
        name.type = name.literal_type
        return self._resolved(self._field(node.offset, node.args[0], name.value, opt=True))

    def _overload(self, node: ast.Call, function: Function) -> Type:
        types = [one.type for one in node.operands]
        if function.name in (ast.AND, ast.OR):
            return self._logical(node, function, types)
        result: Type | None = None
        found: list[Overload] = []
        for overload in function.overloads:
            if overload.member != (node.target is not None) or len(overload.parameters) != len(types):
                continue
            parameters, declared = self._instantiated(overload)
            bindings = assignable(self._bindings, types, parameters)
            if bindings is None:
                continue
            self._bindings = bindings
            found.append(overload)
            produced = self._resolved(declared)
            if result is None:
                result = produced
            elif not is_dyn(result) and produced != result:
                result = DYN
        if result is None:
            shown = [substituted(self._bindings, one, free_to_dyn=True) for one in types]
            applied = signature(shown, member=node.target is not None)
            return self._report(node.offset, f"found no matching overload for '{function.name}' applied to '{applied}'")
        node.overloads = tuple(found)
        return result

    def _logical(self, node: ast.Call, function: Function, types: list[Type]) -> Type:
        node.overloads = function.overloads[:1]
        result = BOOL
        for argument, one in zip(node.args, types, strict=True):
            if not self._assign(one, BOOL):
                result = self._mismatch(argument.offset, BOOL, one)
        return result

    def _instantiated(self, overload: Overload) -> tuple[list[Type], Type]:
        """The signature with fresh parameters, so that two calls don't bind each other's."""
        names: Bindings = {}
        for one in (*overload.parameters, overload.result):
            self._freshen(one, names)
        if not names:
            return list(overload.parameters), overload.result
        return [substituted(names, one) for one in overload.parameters], substituted(names, overload.result)

    def _freshen(self, one: Type, names: Bindings) -> None:
        if one.kind == "type_param" and one.name not in names:
            names[one.name] = self._new_parameter()
        for item in one.parameters:
            self._freshen(item, names)

    def _optional_item(self, node: ast.Node, one: Type) -> Type:
        item, is_optional = _unwrapped(one)
        if not is_optional and not is_dyn(item):
            self._mismatch(node.offset, optional(item), item)
        return item

    def _joined(self, previous: Type | None, current: Type) -> Type:
        if previous is None:
            return current
        return most_general(previous, current) if self._assign(previous, current) else DYN

    def _list(self, node: ast.ListNode) -> Type:
        joined: Type | None = None
        for at, item in enumerate(node.items):
            one = self.check(item)
            if at in node.optional:
                one = self._optional_item(item, one)
            joined = self._joined(joined, one)
        return list_of(joined or self._new_parameter())

    def _map(self, node: ast.MapNode) -> Type:
        keys: Type | None = None
        values: Type | None = None
        for entry in node.entries:
            keys = self._joined(keys, self.check(entry.key))
            value = self.check(entry.value)
            if entry.optional:
                value = self._optional_item(entry.value, value)
            values = self._joined(values, value)
        if keys is None or values is None:
            return map_of(self._new_parameter(), self._new_parameter())
        return map_of(keys, values)

    def _struct(self, node: ast.StructNode) -> Type:
        found = self._lookup(node.name)
        result = ERROR
        if found is None:
            self._undeclared(node.offset, node.name)
        elif found[1] is None:
            self._report(node.offset, f"'{found[0]}' is not a type")
        elif found[1].kind != "object":
            self._report(node.offset, f"'{found[1]}' is not a message type")
        else:
            result = found[1]
        for setter in node.setters:
            value = self.check(setter.value)
            if result is ERROR:
                continue
            expected = self._field_type(setter.offset, result, setter.name)
            if setter.optional:
                value = self._optional_item(setter.value, value)
            if not self._assign(expected, value):
                self._report(
                    setter.offset,
                    f"expected type of field '{setter.name}' is '{expected}' but provided type is '{value}'",
                )
        return result

    def _comprehension(self, node: ast.Comprehension) -> Type:
        iterated = self._resolved(self.check(node.iterated))
        accumulated = self.check(node.initial)
        self._scopes.append({node.accumulator: accumulated})
        first, second = self._variables(node, iterated)
        scope = {node.variable: first}
        if node.variable2:
            scope[node.variable2] = second
        self._scopes.append(scope)
        self._require(node.condition, BOOL)
        self._require(node.step, accumulated)
        self._scopes.pop()
        result = self.check(node.result)
        self._scopes.pop()
        return self._resolved(result)

    def _require(self, node: ast.Node, expected: Type) -> None:
        actual = self.check(node)
        if not self._assign(expected, actual):
            self._mismatch(node.offset, expected, actual)

    def _variables(self, node: ast.Comprehension, iterated: Type) -> tuple[Type, Type]:
        """The types of the loop's variables."""
        match iterated.kind:
            case "list":
                item = iterated.parameters[0]
                return (INT, item) if node.variable2 else (item, item)
            case "map":
                return iterated.parameters[0], iterated.parameters[1]
            case "dyn" | "any" | "error" | "type_param":
                self._assign(DYN, iterated)
                return DYN, DYN
        self._report(
            node.iterated.offset,
            f"expression of type '{iterated}' cannot be range of a comprehension (must be list, map, or dynamic)",
        )
        return ERROR, ERROR

    _METHODS: Mapping[type, Any] = {
        ast.Literal: _literal,
        ast.Ident: _ident,
        ast.Select: _select,
        ast.Call: _call,
        ast.ListNode: _list,
        ast.MapNode: _map,
        ast.StructNode: _struct,
        ast.Comprehension: _comprehension,
    }
