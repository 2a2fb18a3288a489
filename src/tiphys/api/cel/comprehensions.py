"""Comprehensions of two variables (index and item, or key and value), and `cel.bind`.

Kubernetes has the former since 1.32 (cel-go, ext/comprehensions.go), the latter not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.cel import ast
from tiphys.api.cel.macros import (
    Expand,
    Macro,
    MacroError,
    Quantifier,
    accumulated,
    all_fold,
    boolean,
    call,
    exists_fold,
    exists_one_fold,
    fold,
    list_fold,
    variable_name,
)
from tiphys.api.cel.types import EvaluationError, Function, Library, Overload, map_of, type_parameter

INSERT = "cel.@mapInsert"


def _names(arguments: Sequence[ast.Node]) -> tuple[str, str]:
    first, second = _name(arguments[0]), _name(arguments[1])
    if first == second:
        raise MacroError(arguments[1].offset, f"duplicate variable name: {first}")
    return variable_name(arguments[0]), variable_name(arguments[1])


def _name(node: ast.Node) -> str:
    if not isinstance(node, ast.Ident):
        raise MacroError(node.offset, "argument must be a simple name")
    return node.name


def _quantifier(build: Quantifier) -> Expand:
    def expand(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
        return build(offset, target, _names(arguments), arguments[2])

    return expand


def _transform_list(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    keep = arguments[2] if len(arguments) == 4 else None
    return list_fold(offset, target, _names(arguments), arguments[-1], keep)


def _map_fold(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node], *inserted: ast.Node) -> ast.Node:
    step = call(offset, INSERT, accumulated(offset), *inserted)
    if len(arguments) == 4:
        step = call(offset, ast.CONDITIONAL, arguments[2], step, accumulated(offset))
    parts = (ast.MapNode(offset, []), boolean(offset, True), step)
    return fold(offset, "map", target, _names(arguments), parts)


def _transform_map(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    key = ast.Ident(offset, _names(arguments)[0])
    return _map_fold(offset, target, arguments, key, arguments[-1])


def _transform_entry(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    return _map_fold(offset, target, arguments, arguments[-1])


def _bind(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node | None:
    if not isinstance(target, ast.Ident) or target.name != "cel":
        return None
    name = arguments[0]
    if not isinstance(name, ast.Ident):
        raise MacroError(name.offset, "cel.bind() variable names must be simple identifiers")
    return bound(offset, name.name, arguments[1], arguments[2])


def bound(offset: int, name: str, value: ast.Node, result: ast.Node) -> ast.Node:
    """`result` with a local variable."""
    nothing = ast.ListNode(offset, [])
    step = ast.Ident(offset, name)
    return ast.Comprehension(offset, "bind", nothing, ast.UNUSED, "", name, value, boolean(offset, False), step, result)


def insert(target: dict[object, object], *entry: object) -> dict[object, object]:
    """Put a key and value, or the entries of a map, into `target`: no key may come twice."""
    entries = entry[0].items() if len(entry) == 1 and isinstance(entry[0], dict) else (entry,)
    for key, value in entries:
        if key in target:
            raise EvaluationError(f"insert failed: key {key} already exists")
        target[key] = value
    return target


_A, _B = type_parameter("K"), type_parameter("V")
_MAP = map_of(_A, _B)
_INSERT = Function(
    INSERT,
    (
        Overload("@mapInsert_map_map", (_MAP, _MAP), _MAP, insert),
        Overload("@mapInsert_map_key_value", (_MAP, _A, _B), _MAP, insert),
    ),
)

TWO_VARIABLES = Library(
    "cel.lib.ext.comprev2",
    functions=(_INSERT,),
    macros=(
        Macro("all", 3, True, _quantifier(all_fold)),
        Macro("exists", 3, True, _quantifier(exists_fold)),
        Macro("existsOne", 3, True, _quantifier(exists_one_fold)),
        Macro("exists_one", 3, True, _quantifier(exists_one_fold)),
        Macro("transformList", 3, True, _transform_list),
        Macro("transformList", 4, True, _transform_list),
        Macro("transformMap", 3, True, _transform_map),
        Macro("transformMap", 4, True, _transform_map),
        Macro("transformMapEntry", 3, True, _transform_entry),
        Macro("transformMapEntry", 4, True, _transform_entry),
    ),
)

BINDINGS = Library("cel.lib.ext.cel.bindings", macros=(Macro("bind", 3, True, _bind),))
