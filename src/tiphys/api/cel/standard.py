"""The standard library: what every CEL has (cel-spec langdef.md, "List of Standard Definitions").

Operators are declared here for the checker; most of them the emitter writes in place, and their implementations here
serve operands whose types only a run knows. Costs are those of cel-go's interpreter/runtimecost.go and checker/cost.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tiphys.api.cel import access, arithmetic, ast, conversions, equality, times
from tiphys.api.cel.costs import MAX, ONE, REGEX, TRAVERSAL, CallEstimate, Node, Range, traversal
from tiphys.api.cel.libraries.re2 import PatternError, compile_pattern
from tiphys.api.cel.macros import MACROS
from tiphys.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    Cost,
    Estimate,
    EvaluationError,
    Function,
    Library,
    Overload,
    Type,
    list_of,
    map_of,
    type_of_type,
    type_parameter,
)
from tiphys.api.cel.values import size_of, type_of

A, B = type_parameter("A"), type_parameter("B")
LIST, MAP = list_of(A), map_of(A, B)

_SHORT = {
    "bool": "bool",
    "int": "int64",
    "uint": "uint64",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
    "timestamp": "timestamp",
    "duration": "duration",
    "list": "list",
    "map": "map",
}


def _short(one: Type) -> str:
    return _SHORT[one.kind]


# Costs


def walked(*arguments: int) -> Cost:
    """Run-time cost of walking the arguments' texts together."""

    def cost(values: tuple[Any, ...], result: Any) -> int:
        return math.ceil(sum(size_of(values[at]) for at in arguments) * TRAVERSAL)

    return cost


def shorter(values: tuple[Any, ...], result: Any) -> int:
    """Run-time cost of comparing two texts, or any two values."""
    return math.ceil(min(size_of(values[0]), size_of(values[1])) * TRAVERSAL)


def estimate_shorter(nodes: Sequence[Node]) -> CallEstimate:
    most = min(node.size.maximum for node in nodes)
    return CallEstimate(Range(1 if most > 0 else 0, most).scaled(TRAVERSAL))


def _estimate_joined(nodes: Sequence[Node]) -> CallEstimate:
    size = nodes[0].size.plus(nodes[1].size)
    return CallEstimate(size.scaled(TRAVERSAL), size)


def _estimate_lists(nodes: Sequence[Node]) -> CallEstimate:
    return CallEstimate(ONE, nodes[0].size.plus(nodes[1].size))


def matching_cost(values: tuple[Any, ...], result: Any) -> int:
    return math.ceil((1.0 + size_of(values[0])) * TRAVERSAL) * math.ceil(size_of(values[1]) * REGEX)


def estimate_matching(nodes: Sequence[Node]) -> CallEstimate:
    text = nodes[0].size.plus(ONE).scaled(TRAVERSAL)
    return CallEstimate(text.times(nodes[1].size.scaled(REGEX)))


def _contains_cost(values: tuple[Any, ...], result: Any) -> int:
    return math.ceil(size_of(values[0]) * TRAVERSAL) * math.ceil(size_of(values[1]) * TRAVERSAL)


def _estimate_contains(nodes: Sequence[Node]) -> CallEstimate:
    return CallEstimate(nodes[0].size.scaled(TRAVERSAL).times(nodes[1].size.scaled(TRAVERSAL)))


def _estimate_in_list(nodes: Sequence[Node]) -> CallEstimate:
    return CallEstimate(nodes[1].size.scaled(1))


def _estimate_to_bytes(nodes: Sequence[Node]) -> CallEstimate:
    size = nodes[0].size
    return CallEstimate(size.scaled(TRAVERSAL), Range(size.minimum, min(size.maximum * 4, MAX)))


def _estimate_from_bytes(nodes: Sequence[Node]) -> CallEstimate:
    size = nodes[0].size
    return CallEstimate(size.scaled(TRAVERSAL), Range(size.minimum // 4, size.maximum))


# Declarations


def _binary(name: str, word: str, operation: Callable[[Any, Any], Any], pairs: Iterable[tuple[Type, ...]]) -> Function:
    """An arithmetic operator: (left, right, result), or one type for all three."""
    overloads = []
    for pair in pairs:
        left, right, result = pair if len(pair) == 3 else pair * 3
        names = _short(left) if len(pair) == 1 else f"{_short(left)}_{_short(right)}"
        textual = word == "add" and left.kind in ("string", "bytes")
        estimate = _estimate_joined if textual else _estimate_lists if left.kind == "list" else None
        cost = walked(0, 1) if textual else 1
        overloads.append(Overload(f"{word}_{names}", (left, right), result, operation, False, cost, estimate))
    return Function(name, tuple(overloads))


_NUMBERS = (INT, UINT, DOUBLE)


def _comparison(name: str, word: str, operation: Callable[[Any, Any], bool]) -> Function:
    overloads = []
    for one in (BOOL, INT, UINT, DOUBLE, STRING, BYTES, TIMESTAMP, DURATION):
        for other in _NUMBERS if one in _NUMBERS else (one,):
            names = _short(one) if one == other else f"{_short(one)}_{_short(other)}"
            text = one.kind in ("string", "bytes")
            cost: Cost = shorter if text else 1
            estimate = estimate_shorter if text else None
            overloads.append(Overload(f"{word}_{names}", (one, other), BOOL, operation, False, cost, estimate))
    return Function(name, tuple(overloads))


def _conversion(name: str, target: Type, convert: Callable[[Any], Any], sources: Iterable[Type]) -> Function:
    overloads = []
    for source in sources:
        id = f"{_short(source)}_to_{_short(target)}"
        cost: Cost = 1
        estimate: Estimate | None = None
        if id in ("string_to_bytes", "bytes_to_string"):
            cost = walked(0)
            estimate = _estimate_to_bytes if id == "string_to_bytes" else _estimate_from_bytes
        overloads.append(Overload(id, (source,), target, convert, False, cost, estimate))
    return Function(name, tuple(overloads))


def _never(*values: Any) -> Any:
    """Operators that the emitter always writes itself."""
    raise NotImplementedError


def _operators() -> tuple[Function, ...]:
    return (
        Function(ast.CONDITIONAL, (Overload("conditional", (BOOL, A, A), A, _never),)),
        Function(ast.AND, (Overload("logical_and", (BOOL, BOOL), BOOL, _never),)),
        Function(ast.OR, (Overload("logical_or", (BOOL, BOOL), BOOL, _never),)),
        Function(ast.NOT, (Overload("logical_not", (BOOL,), BOOL, _never),)),
        Function(ast.NOT_STRICTLY_FALSE, (Overload("not_strictly_false", (BOOL,), BOOL, _never),)),
        Function(ast.EQUALS, (Overload("equals", (A, A), BOOL, equality.equal, False, shorter, estimate_shorter),)),
        Function(ast.NOT_EQUALS, (Overload("not_equals", (A, A), BOOL, _never, False, shorter, estimate_shorter),)),
        _comparison("_<_", "less", equality.less),
        _comparison("_<=_", "less_equals", equality.less_equal),
        _comparison("_>_", "greater", equality.greater),
        _comparison("_>=_", "greater_equals", equality.greater_equal),
        Function(
            ast.IN,
            (
                Overload(
                    "in_list", (A, LIST), BOOL, _in, False, lambda values, _: size_of(values[1]), _estimate_in_list
                ),
                Overload("in_map", (A, map_of(A, B)), BOOL, _in),
            ),
        ),
        Function(
            ast.INDEX,
            (Overload("index_list", (LIST, INT), A, access.at), Overload("index_map", (MAP, A), B, access.at)),
        ),
    )


def _in(value: Any, container: Any) -> bool:
    return equality.contains(container, value)


def _arithmetic() -> tuple[Function, ...]:
    moments = (TIMESTAMP, DURATION, TIMESTAMP)
    return (
        _binary(
            ast.ADD,
            "add",
            arithmetic.add,
            (
                (BYTES,),
                (DOUBLE,),
                (DURATION, DURATION, DURATION),
                (DURATION, TIMESTAMP, TIMESTAMP),
                moments,
                (INT,),
                (LIST,),
                (STRING,),
                (UINT,),
            ),
        ),
        _binary(
            "_-_",
            "subtract",
            arithmetic.subtract,
            (
                (DOUBLE,),
                (DURATION, DURATION, DURATION),
                (INT,),
                moments,
                (TIMESTAMP, TIMESTAMP, DURATION),
                (UINT,),
            ),
        ),
        _binary("_*_", "multiply", arithmetic.multiply, ((DOUBLE,), (INT,), (UINT,))),
        _binary("_/_", "divide", arithmetic.divide, ((DOUBLE,), (INT,), (UINT,))),
        _binary("_%_", "modulo", arithmetic.modulo, ((INT,), (UINT,))),
        Function(
            ast.NEGATE,
            (
                Overload("negate_double", (DOUBLE,), DOUBLE, arithmetic.negate),
                Overload("negate_int64", (INT,), INT, arithmetic.negate),
            ),
        ),
    )


def _conversions() -> tuple[Function, ...]:
    return (
        Function("dyn", (Overload("to_dyn", (A,), DYN, lambda value: value),)),
        Function("type", (Overload("type", (A,), type_of_type(A), type_of),)),
        _conversion("bool", BOOL, conversions.to_bool, (BOOL, STRING)),
        _conversion("bytes", BYTES, conversions.to_bytes, (BYTES, STRING)),
        _conversion("double", DOUBLE, conversions.to_double, (DOUBLE, INT, STRING, UINT)),
        _conversion("duration", DURATION, conversions.to_duration, (DURATION, INT, STRING)),
        _conversion("int", INT, conversions.to_int, (INT, DOUBLE, DURATION, STRING, TIMESTAMP, UINT)),
        _conversion(
            "string",
            STRING,
            conversions.to_string,
            (STRING, BOOL, BYTES, DOUBLE, DURATION, INT, TIMESTAMP, UINT),
        ),
        _conversion("timestamp", TIMESTAMP, conversions.to_timestamp, (TIMESTAMP, INT, STRING)),
        _conversion("uint", UINT, conversions.to_uint, (UINT, DOUBLE, INT, STRING)),
    )


def _sizes() -> Function:
    sized = (BYTES, LIST, MAP, STRING)
    return Function(
        "size",
        (
            *(Overload(f"size_{_short(one)}", (one,), INT, len) for one in sized),
            *(Overload(f"{_short(one)}_size", (one,), INT, len, True) for one in sized),
        ),
    )


def _texts() -> tuple[Function, ...]:
    two = (STRING, STRING)
    ends, found = traversal(1), (STRING, STRING)
    return (
        Function(
            "contains", (Overload("contains_string", two, BOOL, _contains, True, _contains_cost, _estimate_contains),)
        ),
        Function("endsWith", (Overload("ends_with_string", two, BOOL, str.endswith, True, walked(0), ends),)),
        Function("startsWith", (Overload("starts_with_string", two, BOOL, str.startswith, True, walked(0), ends),)),
        Function(
            "matches",
            (
                Overload("matches", found, BOOL, _matches),
                Overload("matches_string", found, BOOL, _matches, True, matching_cost, estimate_matching),
            ),
        ),
    )


def _contains(text: str, part: str) -> bool:
    return part in text


def _matches(text: str, pattern: str) -> bool:
    try:
        return compile_pattern(pattern).matches(text)
    except PatternError as error:
        raise EvaluationError(str(error)) from None


def _time_function(name: str, id: str, read: Callable[..., int], unit: int | None = None) -> Function:
    zoned = f"{id}_tz" if name == "getSeconds" else f"{id}_with_tz"
    overloads = [
        Overload(id, (TIMESTAMP,), INT, read, True),
        Overload(zoned, (TIMESTAMP, STRING), INT, read, True),
    ]
    if unit is not None:
        of_duration = id.replace("timestamp", "duration")
        overloads.append(Overload(of_duration, (DURATION,), INT, times.in_unit(unit), True))
    return Function(name, tuple(overloads))


def _times() -> tuple[Function, ...]:
    second = arithmetic.SECOND
    return (
        _time_function("getFullYear", "timestamp_to_year", times.full_year),
        _time_function("getMonth", "timestamp_to_month", times.month),
        _time_function("getDayOfYear", "timestamp_to_day_of_year", times.day_of_year),
        _time_function("getDayOfMonth", "timestamp_to_day_of_month", times.day_of_month),
        _time_function("getDate", "timestamp_to_day_of_month_1_based", times.date),
        _time_function("getDayOfWeek", "timestamp_to_day_of_week", times.day_of_week),
        _time_function("getHours", "timestamp_to_hours", times.hours, 3600 * second),
        _time_function("getMinutes", "timestamp_to_minutes", times.minutes, 60 * second),
        _time_function("getSeconds", "timestamp_to_seconds", times.seconds, second),
        _time_function("getMilliseconds", "timestamp_to_milliseconds", times.milliseconds, second // 1000),
    )


CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))
"""Functions whose value upstream computes beforehand when the argument is a constant: they cost nothing then."""

STANDARD = Library(
    "stdlib",
    functions=(*_operators(), *_arithmetic(), *_conversions(), _sizes(), *_texts(), *_times()),
    types=(BOOL, BYTES, DOUBLE, DURATION, INT, list_of(DYN), map_of(DYN, DYN), NULL, STRING, TIMESTAMP, TYPE, UINT),
    macros=MACROS,
)
