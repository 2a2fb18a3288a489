"""The `lists` library of Kubernetes: isSorted, sum, min, max, indexOf, lastIndexOf."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tiphys.api.cel.equality import equal
from tiphys.api.cel.libraries.sizes import estimate_traversal, traversal_cost
from tiphys.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    EvaluationError,
    Function,
    Library,
    Overload,
    Type,
    list_of,
    type_parameter,
)
from tiphys.api.cel.values import Duration, Uint

SUMMABLE = {"int": INT, "uint": UINT, "double": DOUBLE, "duration": DURATION}
COMPARABLE = {
    **{"int": INT, "uint": UINT, "double": DOUBLE, "bool": BOOL, "duration": DURATION},
    **{"timestamp": TIMESTAMP, "string": STRING, "bytes": BYTES},
}
_ANY = type_parameter("A")
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def is_sorted(items: list[Any]) -> bool:
    return all(not (before > after) for before, after in pairwise(items))


def _least(items: list[Any]) -> Any:
    if not items:
        raise EvaluationError("min called on empty list")
    return min(items)


def _greatest(items: list[Any]) -> Any:
    if not items:
        raise EvaluationError("max called on empty list")
    return max(items)


def _sum_ints(items: list[int], what: str = "integer") -> int:
    total = 0
    for item in items:
        total += item
        if not _SMALLEST <= total <= _LARGEST:
            raise EvaluationError(f"{what} overflow")
    return total


def _sum_uints(items: list[int]) -> Uint:
    total = sum(items)
    if total >= 2**64:
        raise EvaluationError("unsigned integer overflow")
    return Uint(total)


def _sum_doubles(items: list[float]) -> float:
    total = 0.0
    for item in items:
        total += item
    return total


def _sum_durations(items: list[Duration]) -> Duration:
    return Duration(_sum_ints([item.nanoseconds for item in items], "duration"))


_SUMS: dict[str, Callable[[list[Any]], Any]] = {
    "int": _sum_ints,
    "uint": _sum_uints,
    "double": _sum_doubles,
    "duration": _sum_durations,
}


def index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if equal(item, wanted)), -1)


def last_index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if equal(items[i], wanted)), -1)


def _overload(id: str, result: Type, implementation: Callable[..., Any], *parameters: Type) -> Overload:
    return Overload(
        id, parameters, result, implementation, member=True, cost=traversal_cost, estimate=estimate_traversal
    )


LISTS = Library(
    "kubernetes.lists",
    (
        Function(
            "isSorted",
            tuple(
                _overload(f"list_{name}_is_sorted_bool", BOOL, is_sorted, list_of(item))
                for name, item in COMPARABLE.items()
            ),
        ),
        Function(
            "sum",
            tuple(
                _overload(f"list_{name}_sum_{name}", item, _SUMS[name], list_of(item))
                for name, item in SUMMABLE.items()
            ),
        ),
        *(
            Function(
                name,
                tuple(
                    _overload(f"list_{kind}_{name}_{kind}", item, choose, list_of(item))
                    for kind, item in COMPARABLE.items()
                ),
            )
            for name, choose in (("max", _greatest), ("min", _least))
        ),
        Function("indexOf", (_overload("list_a_index_of_int", INT, index_of, list_of(_ANY), _ANY),)),
        Function("lastIndexOf", (_overload("list_a_last_index_of_int", INT, last_index_of, list_of(_ANY), _ANY),)),
    ),
)
