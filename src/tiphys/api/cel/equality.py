"""Equality and order of CEL, where Python's own would differ: True is not 1, numbers compare across their types.

Two values of different types are unequal, which is no error (cel-spec langdef.md, "Equality"); ordering them is one.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.cel.types import EvaluationError, Type
from tiphys.api.cel.values import Duration, Timestamp, Uint, type_of

_NUMBERS = frozenset((int, float, Uint))
NO_OVERLOAD = "no such overload"


def equal(first: Any, second: Any) -> bool:
    """CEL's `==` for any two values."""
    kind = type(first)
    other = type(second)
    if kind is str or other is str or kind is bool or other is bool:
        return kind is other and bool(first == second)
    if kind in _NUMBERS:
        return other in _NUMBERS and bool(first == second if kind is other else _mixed(first, second))
    if isinstance(first, list):
        return isinstance(second, list) and _equal_lists(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and _equal_maps(first, second)
    if kind is Type:
        return other is Type and first.name == second.name
    return kind is other and bool(first == second)


def _equal_lists(first: list[Any], second: list[Any]) -> bool:
    compare = getattr(first, "cel_equal", None)
    if compare is not None:
        return bool(compare(second))
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: Any, second: Any) -> bool:
    """`equal`, with the shortest way for what most values are: texts, and parts that two objects share."""
    if type(first) is str:
        return bool(first == second)
    if first is second and type(first) is not float:
        return True
    return equal(first, second)


_MISSING = object()


def _equal_maps(first: dict[Any, Any], second: dict[Any, Any]) -> bool:
    if len(first) != len(second):
        return False
    for key, value in first.items():
        if type(key) is not str and not contains_key(second, key):
            return False
        other = second.get(key, _MISSING)
        if other is _MISSING or not _same(value, other):
            return False
    return True


def contains(items: Any, value: Any) -> bool:
    """CEL's `value in items` for a list or a map."""
    if isinstance(items, list):
        if type(value) is str:
            return value in items
        return any(equal(item, value) for item in items)
    if isinstance(items, dict):
        return contains_key(items, value)
    raise EvaluationError(NO_OVERLOAD)


def contains_key(entries: dict[Any, Any], key: Any) -> bool:
    """Whether a map has the key; 1, 1u and 1.0 are one key, true is another."""
    if type(key) is str:
        return key in entries
    try:
        if key not in entries:
            return False
    except TypeError:
        return False
    return (type(key) is not bool and not entries_have_bool(entries)) or any(_same_key(one, key) for one in entries)


def entries_have_bool(entries: dict[Any, Any]) -> bool:
    return any(type(one) is bool for one in entries)


def _same_key(one: Any, key: Any) -> bool:
    return bool(one == key) and (type(one) is bool) is (type(key) is bool)


def _mixed(first: Any, second: Any) -> bool:
    """Whether numbers of two types are equal: upstream compares as doubles when one of them is."""
    if type(first) is float or type(second) is float:
        return float(first) == float(second)
    return bool(first == second)


def _ordered(first: Any, second: Any) -> tuple[Any, Any]:
    """The two, comparable by Python's operators. Raises when they have no order."""
    kind, other = type(first), type(second)
    if kind in _NUMBERS and other in _NUMBERS:
        if first != first or second != second:
            raise EvaluationError("NaN values cannot be ordered")
        return (float(first), float(second)) if float in (kind, other) else (first, second)
    if kind is not other or kind not in _ORDERED:
        raise EvaluationError(NO_OVERLOAD)
    return first, second


_ORDERED = frozenset((bool, str, bytes, Timestamp, Duration))


def less(first: Any, second: Any) -> bool:
    first, second = _ordered(first, second)
    return bool(first < second)


def less_equal(first: Any, second: Any) -> bool:
    first, second = _ordered(first, second)
    return bool(first <= second)


def greater(first: Any, second: Any) -> bool:
    first, second = _ordered(first, second)
    return bool(first > second)


def greater_equal(first: Any, second: Any) -> bool:
    first, second = _ordered(first, second)
    return bool(first >= second)


def shown(value: Any) -> str:
    """A value in an error's text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return value.name if isinstance(value, Type) else str(value)


def no_overload(function: str, *values: Any) -> EvaluationError:
    """The error of a call that no overload fits. Upstream's three text functions don't say what they got."""
    if function in ("contains", "endsWith", "startsWith"):
        return EvaluationError(NO_OVERLOAD)
    types = ", ".join(type_of(value).name for value in values)
    return EvaluationError(f"no such overload: {function}({types})")
