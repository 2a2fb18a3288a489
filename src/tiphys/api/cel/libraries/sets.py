"""The `sets` library: cel-go's extension. Lists are compared as sets, by CEL's equality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tiphys.api.cel.costs import ONE, CallEstimate, Node
from tiphys.api.cel.equality import equal
from tiphys.api.cel.libraries.sizes import at_most_budget
from tiphys.api.cel.types import BOOL, Function, Library, Overload, list_of, type_parameter

_LIST = list_of(type_parameter("T"))


def _holds(items: list[Any], wanted: Any) -> bool:
    return any(equal(item, wanted) for item in items)


def contains(items: list[Any], wanted: list[Any]) -> bool:
    at_most_budget(len(items) * len(wanted))
    return all(_holds(items, item) for item in wanted)


def equivalent(items: list[Any], others: list[Any]) -> bool:
    at_most_budget(2 * len(items) * len(others))
    return contains(items, others) and contains(others, items)


def intersects(items: list[Any], others: list[Any]) -> bool:
    at_most_budget(len(items) * len(others))
    return any(_holds(others, item) for item in items)


def _function(name: str, implementation: Callable[..., bool], factor: int = 1) -> Function:
    def cost(arguments: tuple[Any, ...], result: Any) -> int:
        return 1 + len(arguments[0]) * len(arguments[1]) * factor

    def estimate(nodes: Sequence[Node]) -> CallEstimate:
        return CallEstimate(nodes[0].size.times(nodes[1].size).scaled(factor).plus(ONE))

    overload = Overload(f"list_sets_{name}_list", (_LIST, _LIST), BOOL, implementation, cost=cost, estimate=estimate)
    return Function(f"sets.{name}", (overload,))


SETS = Library(
    "cel.lib.ext.sets",
    (_function("contains", contains), _function("equivalent", equivalent, 2), _function("intersects", intersects)),
)
