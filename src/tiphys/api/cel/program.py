"""A compiled expression: its type, what it may cost, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tiphys.api.cel.costs import Range
from tiphys.api.cel.types import Budget, Type


class Compiled(Protocol):
    """The function that an expression became."""

    def __call__(self, variables: Mapping[str, Any], budget: Budget | None = None) -> Any: ...


class Program:
    """An expression that was checked and compiled; `Environment.compile` makes it."""

    __slots__ = ("_estimate", "run", "source", "type")

    def __init__(self, source: str, result: Type, run: Compiled, estimate: Callable[[], Range]) -> None:
        self.source = source
        self.type = result
        """The static type of the value; DYN where only a run can tell."""
        self.run = run
        """`run(variables, budget=None) -> value`: raises EvaluationError, or CostExceeded when it costs too much."""
        self._estimate = estimate

    def estimated_cost(self) -> Range:
        """The least and the most a run can cost, with the sizes that the variables' types allow."""
        return self._estimate()
