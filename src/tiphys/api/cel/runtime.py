"""What compiled expressions call while they run: failures, limits, dispatch by the types of values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tiphys.api.cel.costs import TRAVERSAL
from tiphys.api.cel.equality import NO_OVERLOAD, no_overload, shown
from tiphys.api.cel.types import PER_CALL_LIMIT, Budget, CostExceeded, EvaluationError, Overload, Type
from tiphys.api.cel.values import Duration, Optional, Timestamp, Uint, size_of

FAILURES = (
    EvaluationError,
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    IndexError,
    OverflowError,
    RecursionError,
)
"""What an expression may run into; `failure` gives it its text. All but the first come from Python itself, when a value
is not what its static type promised."""


def failure(error: BaseException) -> EvaluationError:
    """The error to raise for what an expression ran into."""
    if isinstance(error, EvaluationError):
        return error
    if isinstance(error, KeyError):
        return EvaluationError(f"no such key: {shown(error.args[0])}")
    if isinstance(error, RecursionError):
        return EvaluationError("value is nested too deeply")
    return EvaluationError(NO_OVERLOAD)


def unbound(error: KeyError) -> EvaluationError:
    return EvaluationError(f"no such attribute(s): {error.args[0]}")


def settle(budget: Budget | None, cost: int) -> None:
    """Take a failed run's cost from the budget."""
    if budget is not None:
        budget.remaining -= cost


def exceeded(cost: int, budget: Budget | None) -> CostExceeded:
    """The error of a run over its own limit."""
    settle(budget, cost)
    return CostExceeded()


def exhausted() -> CostExceeded:
    """The error of a run over the shared budget."""
    return CostExceeded(shared=True)


def again(error: BaseException) -> Any:
    """Raise a failure that was kept."""
    raise error


def truth(value: Any) -> bool:
    """A bool, where the static type does not promise one."""
    if value is True or value is False:
        return bool(value)
    raise EvaluationError(NO_OVERLOAD)


def negation(value: Any) -> bool:
    return not truth(value)


def equality_cost(first: Any, second: Any) -> int:
    """Run-time cost of `==`; values of libraries cost 1."""
    if getattr(first, "cel_type", None) is not None and not isinstance(first, Optional):
        return 1
    return math.ceil(min(size_of(first), size_of(second)) * TRAVERSAL)


def inequality_cost(first: Any, second: Any) -> int:
    return math.ceil(min(size_of(first), size_of(second)) * TRAVERSAL)


def joined(first: list[Any], second: list[Any]) -> list[Any]:
    """`list + list`. Upstream doesn't copy; a list that nobody can afford to walk is refused here."""
    if len(first) + len(second) > PER_CALL_LIMIT:
        raise CostExceeded
    return first + second


_EXACT: dict[str, type] = {
    "bool": bool,
    "int": int,
    "uint": Uint,
    "double": float,
    "string": str,
    "bytes": bytes,
    "null_type": type(None),
    "timestamp": Timestamp,
    "duration": Duration,
    "type": Type,
}


def fits(value: Any, parameter: Type) -> bool:
    """Whether a value may be an argument where the parameter has this type; items are looked at one deep."""
    kind = parameter.kind
    exact = _EXACT.get(kind)
    if exact is not None:
        return type(value) is exact or (parameter.nullable and value is None)
    match kind:
        case "list":
            item = parameter.parameters[0]
            return isinstance(value, list) and (not value or item.kind == "list" or fits(value[0], item))
        case "map":
            return isinstance(value, dict)
        case "object" | "opaque":
            own = getattr(value, "cel_type", None)
            if own is None:
                return isinstance(value, dict) and parameter.fields is not None
            return bool(own.name == parameter.name)
    return True


def dispatcher(function: str, overloads: Sequence[Overload], standard: bool) -> Callable[..., tuple[Any, int]]:
    """A callable that picks the overload by the values and returns the result with the cost.

    Calls of standard functions cost 1 then, as upstream doesn't know the overload when it counts.
    """

    def call(*values: Any) -> tuple[Any, int]:
        for overload in overloads:
            if all(map(fits, values, overload.parameters)):
                result = overload.implementation(*values)
                cost = overload.cost
                if standard and len(overloads) > 1:
                    return result, 1
                return result, cost if isinstance(cost, int) else cost(values, result)
        raise no_overload(function, *values)

    return call
