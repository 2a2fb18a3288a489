"""The `lists` extension of cel-go, version 3: slice, flatten, sort, sortBy, reverse, distinct, lists.range.

What an operation costs is known from its arguments, so what would cost more than one expression may is refused before
it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tiphys.api.cel.costs import LIST, MAX, ONE, TRAVERSAL, CallEstimate, Node, Range, scaled
from tiphys.api.cel.equality import equal
from tiphys.api.cel.libraries.lists import COMPARABLE
from tiphys.api.cel.libraries.sizes import at_most_budget, whole
from tiphys.api.cel.libraries.sorting import BY_KEYS, SORT_BY
from tiphys.api.cel.types import (
    DYN,
    INT,
    Cost,
    Estimate,
    EvaluationError,
    Function,
    Library,
    Overload,
    Type,
    list_of,
    type_parameter,
)
from tiphys.api.cel.values import type_of

_LIST = list_of(type_parameter("T"))
_HASHABLE = (str, int, bytes)


def slice_of(items: list[Any], start: int, end: int) -> list[Any]:
    where = f"cannot slice({start}, {end})"
    if start < 0 or end < 0:
        raise EvaluationError(f"{where}, negative indexes not supported")
    if start > end:
        raise EvaluationError(f"{where}, start index must be less than or equal to end index")
    if len(items) < end:
        raise EvaluationError(f"{where}, list is length {len(items)}")
    return items[start:end]


def flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    flat: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth:
            # The cost of the call counts the outer list only: what is in it may be the same large list many times.
            at_most_budget(len(flat) + len(item))
            flat += flatten(item, depth - 1)
        else:
            flat.append(item)
    return flat


def sort(items: list[Any]) -> list[Any]:
    return sort_by_keys(items, items)


def sort_by_keys(items: list[Any], keys: list[Any]) -> list[Any]:
    """`items` in the order of `keys`, which are as many."""
    if len(items) != len(keys):
        text = "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got"
        raise EvaluationError(f"{text} {len(items)} and {len(keys)} elements respectively")
    at_most_budget(2 * len(items) ** 2)
    if not keys:
        return items
    kinds = {type_of(key) for key in keys}
    if type_of(keys[0]) not in _COMPARABLE:
        raise EvaluationError("list elements must be comparable")
    if len(kinds) > 1:
        raise EvaluationError("list elements must have the same type")
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


_COMPARABLE = frozenset(COMPARABLE.values())


def range_to(count: int) -> list[int]:
    at_most_budget(count)
    return list(range(count))


def reverse(items: list[Any]) -> list[Any]:
    return items[::-1]


def distinct(items: list[Any]) -> list[Any]:
    """Each item once, where it comes first."""
    at_most_budget(2 * len(items) ** 2)
    kinds = {type(item) for item in items}
    if len(kinds) == 1 and issubclass(next(iter(kinds)), _HASHABLE):
        return list(dict.fromkeys(items))
    found: list[Any] = []
    for item in items:
        if not any(equal(item, other) for other in found):
            found.append(item)
    return found


def _estimated(factor: float, size: Range) -> CallEstimate:
    cost = size.scaled(factor).plus(ONE).plus(Range(LIST, LIST))
    return CallEstimate(cost, size)


def _allocated(factor: float, size: int) -> int:
    return int(size * factor) + 1 + LIST


def _of_result(arguments: tuple[Any, ...], result: Any) -> int:
    return _allocated(1, len(result))


def _of_depth(arguments: tuple[Any, ...], result: Any) -> int:
    depth = arguments[1] if len(arguments) == 2 else 1
    return _allocated(depth, len(arguments[0]))


def _compared(argument: int) -> Callable[[tuple[Any, ...], Any], int]:
    """Every item with every other one, of the list that is this argument."""

    def cost(arguments: tuple[Any, ...], result: Any) -> int:
        items = arguments[argument]
        texts = bool(items) and isinstance(items[0], (str, bytes))
        return _allocated(2 + TRAVERSAL * texts, len(items) ** 2)

    return cost


def _estimate_slice(nodes: Sequence[Node]) -> CallEstimate:
    start, end = whole(nodes[1], 0), whole(nodes[2], nodes[0].size.maximum)
    size = (end - start) & MAX
    return _estimated(1, Range(size, size))


def _estimate_range(nodes: Sequence[Node]) -> CallEstimate:
    size = whole(nodes[0], MAX)
    return _estimated(1, Range(size, size))


def _estimate_reverse(nodes: Sequence[Node]) -> CallEstimate:
    return _estimated(1, nodes[0].size)


def _estimate_flatten(nodes: Sequence[Node]) -> CallEstimate:
    depth = whole(nodes[1], MAX) if len(nodes) == 2 else 1
    size = nodes[0].size
    cost = Range(scaled(size.minimum, depth), scaled(size.maximum, depth))
    return CallEstimate(cost.plus(ONE).plus(Range(LIST, LIST)), size)


def _estimate_compared(argument: int, factor: float) -> Estimate:
    def estimate(nodes: Sequence[Node]) -> CallEstimate:
        size = nodes[argument].size
        return _estimated(factor, size.times(size))

    return estimate


def _sorting(suffix: str, implementation: Callable[..., Any], argument: int) -> tuple[Overload, ...]:
    def one(item: Type) -> Overload:
        factor = 2 + TRAVERSAL * (item.kind in ("string", "bytes"))
        parameters = (list_of(item),) if argument == 0 else (_LIST, list_of(item))
        return Overload(
            f"list_{item.name}_{suffix}",
            parameters,
            parameters[0],
            implementation,
            member=True,
            cost=_compared(argument),
            estimate=_estimate_compared(argument, factor),
        )

    return tuple(map(one, COMPARABLE.values()))


def _function(
    name: str,
    id: str,
    implementation: Callable[..., Any],
    cost: Cost,
    estimate: Estimate,
    *parameters: Type,
    result: Type = _LIST,
    member: bool = True,
) -> Function:
    overload = Overload(id, parameters, result, implementation, member=member, cost=cost, estimate=estimate)
    return Function(name, (overload,))


_NESTED, _DYNAMIC = list_of(_LIST), list_of(DYN)

EXTENDED_LISTS = Library(
    "cel.lib.ext.lists",
    (
        _function("slice", "list_slice", slice_of, _of_result, _estimate_slice, _LIST, INT, INT),
        _function("flatten", "list_flatten", flatten, _of_depth, _estimate_flatten, _NESTED),
        _function("flatten", "list_flatten_int", flatten, _of_depth, _estimate_flatten, _DYNAMIC, INT, result=_DYNAMIC),
        Function("sort", _sorting("sort", sort, 0)),
        Function(BY_KEYS, _sorting("sortByAssociatedKeys", sort_by_keys, 1)),
        _function(
            "lists.range", "lists_range", range_to, _of_result, _estimate_range, INT, result=list_of(INT), member=False
        ),
        _function("reverse", "list_reverse", reverse, _of_result, _estimate_reverse, _LIST),
        _function("distinct", "list_distinct", distinct, _compared(0), _estimate_compared(0, 2), _LIST),
    ),
    macros=(SORT_BY,),
)
