"""Optional values: `optional.of(x)`, `a.?b`, `a[?k]`, `orValue`, `optMap`; in Kubernetes since 1.28.

`or` and `orValue` evaluate their argument only when they need it, and cost nothing: the emitter writes them.
Source: cel-go, cel/library.go (OptionalTypes, at its latest version).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api.cel import access, ast
from tiphys.api.cel.comprehensions import bound
from tiphys.api.cel.macros import Macro, MacroError, call, method
from tiphys.api.cel.types import (
    BOOL,
    DYN,
    INT,
    STRING,
    EvaluationError,
    Function,
    Library,
    Overload,
    list_of,
    map_of,
    optional,
    type_parameter,
)
from tiphys.api.cel.values import NONE, Duration, Optional, Timestamp

K, V = type_parameter("K"), type_parameter("V")
OPTIONAL, LIST, MAP = optional(V), list_of(V), map_of(K, V)
_MOST_COPIED = 20_000
"""Nodes of a receiver that optMap copies: a chain of them doubles every time."""
OR, OR_VALUE = "or", "orValue"


def value(one: Optional) -> Any:
    if one.present:
        return one.value
    raise EvaluationError("optional.none() dereference")


def of_non_zero(one: Any) -> Optional:
    match one:
        case None | bool() | int() | float() | str() | bytes() | list() | dict():
            return Optional(one) if one else NONE
        case Duration():
            return Optional(one) if one.nanoseconds else NONE
        case Timestamp():
            return Optional(one) if one.nanoseconds != _ZERO_TIME else NONE
        case Optional():
            return Optional(one) if one.present else NONE
    return Optional(one)


_ZERO_TIME = -62_135_596_800 * 1_000_000_000


def unwrap(items: list[Any]) -> list[Any]:
    for one in items:
        if not isinstance(one, Optional):
            raise EvaluationError(f"value {one} is not optional")
    return [one.value for one in items if one.present]


def _first(items: list[Any]) -> Optional:
    return Optional(items[0]) if items else NONE


def _last(items: list[Any]) -> Optional:
    return Optional(items[-1]) if items else NONE


def _never(*values: Any) -> Any:
    """Short-circuiting functions that the emitter always writes itself."""
    raise NotImplementedError


def _mapped(function: str, *, flat: bool) -> Macro:
    """`x.optMap(v, e)`: `x.hasValue() ? optional.of(e with v = x.value()) : optional.none()`."""

    def expand(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node | None:
        name = arguments[0]
        if not isinstance(name, ast.Ident):
            raise MacroError(name.offset, f"{function}() variable name must be a simple identifier")
        if target is None:
            return None
        if ast.count(target) > _MOST_COPIED:
            raise MacroError(offset, f"{function}() has too large a receiver: it is evaluated twice")
        present = method(offset, "hasValue", target)
        result = bound(offset, name.name, method(offset, "value", ast.copied(target)), arguments[1])
        if not flat:
            result = call(offset, "optional.of", result)
        return call(offset, ast.CONDITIONAL, present, result, call(offset, "optional.none"))

    return Macro(function, 2, True, expand)


def _functions() -> tuple[Function, ...]:
    return (
        Function("optional.of", (Overload("optional_of", (V,), OPTIONAL, Optional),)),
        Function("optional.ofNonZeroValue", (Overload("optional_ofNonZeroValue", (V,), OPTIONAL, of_non_zero),)),
        Function("optional.none", (Overload("optional_none", (), OPTIONAL, lambda: NONE),)),
        Function("value", (Overload("optional_value", (OPTIONAL,), V, value, True),)),
        Function("hasValue", (Overload("optional_hasValue", (OPTIONAL,), BOOL, lambda one: one.present, True),)),
        Function(OR, (Overload("optional_or_optional", (OPTIONAL, OPTIONAL), OPTIONAL, _never, True),)),
        Function(OR_VALUE, (Overload("optional_orValue_value", (OPTIONAL, V), V, _never, True),)),
        Function(
            ast.OPTIONAL_SELECT, (Overload("select_optional_field", (DYN, STRING), OPTIONAL, access.optional_at),)
        ),
        Function(
            ast.OPTIONAL_INDEX,
            (
                Overload("list_optindex_optional_int", (LIST, INT), OPTIONAL, access.optional_at),
                Overload("optional_list_optindex_optional_int", (optional(LIST), INT), OPTIONAL, access.optional_at),
                Overload("map_optindex_optional_value", (MAP, K), OPTIONAL, access.optional_at),
                Overload("optional_map_optindex_optional_value", (optional(MAP), K), OPTIONAL, access.optional_at),
            ),
        ),
        Function(
            ast.INDEX,
            (
                Overload("optional_list_index_int", (optional(LIST), INT), OPTIONAL, access.optional_at),
                Overload("optional_map_index_value", (optional(MAP), K), OPTIONAL, access.optional_at),
            ),
        ),
        Function("last", (Overload("list_last", (LIST,), OPTIONAL, _last, True),)),
        Function("first", (Overload("list_first", (LIST,), OPTIONAL, _first, True),)),
        Function("optional.unwrap", (Overload("optional_unwrap", (list_of(OPTIONAL),), LIST, unwrap),)),
        Function("unwrapOpt", (Overload("optional_unwrapOpt", (list_of(OPTIONAL),), LIST, unwrap, True),)),
    )


OPTIONALS = Library(
    "cel.lib.optional",
    functions=_functions(),
    types=(optional(DYN),),
    macros=(_mapped("optMap", flat=False), _mapped("optFlatMap", flat=True)),
)
