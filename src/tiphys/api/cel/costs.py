"""Cost ranges: what an expression may cost before anybody has seen its input.

Two numbers, smallest and largest, saturating at 2^64-1; the same arithmetic serves costs and sizes. Upstream's
estimates decide which rules a CustomResourceDefinition may carry, so that rounding is upstream's: factors multiply
as doubles and round up (cel-go, checker/cost.go).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from tiphys.api.cel.types import Estimate, Type

MAX = (1 << 64) - 1

TRAVERSAL = 0.1
"""A character's share when a string is walked once."""
REGEX = 0.25
"""A character's share of a pattern."""
IDENTIFIER = 1
LIST = 10
MAP = 30
STRUCT = 40


def scaled(value: int, factor: float) -> int:
    """value times factor, rounded up, at most MAX."""
    as_float = float(value)
    if as_float > 0 and factor > 0 and as_float > MAX / factor:
        return MAX
    result = math.ceil(as_float * factor)
    return min(result, MAX)


class Range(NamedTuple):
    """The least and the most of a cost or of a size."""

    minimum: int
    maximum: int

    def plus(self, other: Range) -> Range:
        return Range(min(self.minimum + other.minimum, MAX), min(self.maximum + other.maximum, MAX))

    def times(self, other: Range) -> Range:
        return Range(min(self.minimum * other.minimum, MAX), min(self.maximum * other.maximum, MAX))

    def scaled(self, factor: float) -> Range:
        return Range(scaled(self.minimum, factor), scaled(self.maximum, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.minimum, other.minimum), max(self.maximum, other.maximum))


UNBOUNDED = Range(0, MAX)
ZERO = Range(0, 0)
ONE = Range(1, 1)


class CallEstimate(NamedTuple):
    """What a call costs besides its arguments, and how large its result is (None: not sized, or not known)."""

    cost: Range
    size: Range | None = None


class Node(Protocol):
    """An argument as the estimator sees it."""

    @property
    def type(self) -> Type: ...

    @property
    def literal(self) -> Any:
        """The value of a literal, else None."""

    @property
    def known_size(self) -> Range | None:
        """What the expression alone tells of the size: of literals, concatenations, results of functions."""

    @property
    def size(self) -> Range:
        """The size by the expression, or by the schema, or `UNBOUNDED`."""

    def items(self) -> Node | None:
        """The items of a list; None for anything else."""


def fixed(cost: int = 1) -> Estimate:
    """An estimate that does not depend on the arguments."""

    def estimate(nodes: Sequence[Node]) -> CallEstimate:
        return CallEstimate(Range(cost, cost))

    return estimate


def traversal(argument: int = 0, *, times: int = 1, keeps_size: bool = False) -> Estimate:
    """Walking a string `times` times; the result is as large as the argument when it `keeps_size`."""

    def estimate(nodes: Sequence[Node]) -> CallEstimate:
        size = nodes[argument].size
        return CallEstimate(size.scaled(times * TRAVERSAL), size if keeps_size else None)

    return estimate
