"""Costs that several libraries share: upstream's `library/cost.go` in terms of `Overload.cost` and `Overload.estimate`.

A cost function gets the evaluated arguments and the result, an estimate the arguments' nodes. Sizes are code points,
items and entries, but where upstream counts bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tiphys.api.cel.costs import MAX, ONE, REGEX, TRAVERSAL, CallEstimate, Node, Range
from tiphys.api.cel.types import PER_CALL_LIMIT, CostExceeded, Estimate
from tiphys.api.cel.values import size_of

Arguments = tuple[Any, ...]
CostOf = Callable[[Arguments, Any], int]


def share(size: int, factor: float = TRAVERSAL) -> int:
    """`size` times `factor`, rounded up."""
    return math.ceil(size * factor)


def walk(argument: int = 0, *, times: int = 1) -> CostOf:
    """Walking a string `times` times."""

    def cost(arguments: Arguments, result: Any) -> int:
        return share(size_of(arguments[argument]), times * TRAVERSAL)

    return cost


def traversed(value: Any) -> int:
    """The cost of visiting everything in `value`; strings count by bytes, rounded down."""
    if isinstance(value, str):
        return int(len(value.encode("utf-8", "surrogatepass")) * TRAVERSAL)
    if isinstance(value, bytes):
        return int(len(value) * TRAVERSAL)
    if isinstance(value, list):
        return sum(map(traversed, value))
    if isinstance(value, dict):
        return sum(traversed(key) + traversed(item) for key, item in value.items())
    return 1


def traversal_cost(arguments: Arguments, result: Any) -> int:
    """Visiting all of the receiver once."""
    return traversed(arguments[0])


def estimate_traversal(nodes: Sequence[Node]) -> CallEstimate:
    """One comparison an item and, for texts, their length; the length of a receiver that is no list."""
    receiver = nodes[0]
    items = receiver.items()
    if items is None:
        return CallEstimate(receiver.size.scaled(TRAVERSAL))
    each = ONE
    if items.type.kind in ("string", "bytes"):
        each = each.plus(items.size.scaled(TRAVERSAL))
    return CallEstimate(receiver.size.times(each))


def matching_cost(arguments: Arguments, result: Any) -> int:
    """Searching a text with a pattern: the length of one times that of the other."""
    return share(1 + size_of(arguments[0])) * share(size_of(arguments[1]), REGEX)


def estimate_matching(nodes: Sequence[Node]) -> CallEstimate:
    text, pattern = nodes[0].size, nodes[1].size
    cost = text.plus(ONE).scaled(TRAVERSAL).times(pattern.scaled(REGEX))
    return CallEstimate(cost, Range(0, text.maximum))


def walks(argument: int = 0, *, times: int = 1) -> dict[str, Any]:
    """`cost` and `estimate` of a function that walks one string."""

    def estimate(nodes: Sequence[Node]) -> CallEstimate:
        return CallEstimate(nodes[argument].size.scaled(times * TRAVERSAL))

    made: Estimate = estimate
    return {"cost": walk(argument, times=times), "estimate": made}


def at_most_budget(cost: int) -> None:
    """Refuse work before it is done when its cost alone exceeds what one expression may cost. Raises CostExceeded."""
    if cost > PER_CALL_LIMIT:
        raise CostExceeded


def whole(node: Node, default: int) -> int:
    """A literal whole number, 0 for a negative one; `default` for anything else."""
    value = node.literal
    if isinstance(value, bool) or type(value) is not int:
        return default
    return max(value, 0)


def within(value: int) -> int:
    """`value` as an unsigned number of 64 bits, as costs wrap."""
    return value & MAX
