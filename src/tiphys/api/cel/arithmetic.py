"""Arithmetic of 64-bit integers, doubles, times, texts and lists; out of range is an error, never a wrap.

The emitter writes the common cases (int, string, double) in place; these functions are the rest, and the dispatch for
operands whose types only a run knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tiphys.api.cel.equality import NO_OVERLOAD
from tiphys.api.cel.types import EvaluationError
from tiphys.api.cel.values import Duration, Timestamp, Uint

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
SECOND = 1_000_000_000
TIMESTAMP_MIN = -62_135_596_800 * SECOND
TIMESTAMP_MAX = 253_402_300_799 * SECOND + SECOND - 1


def overflow() -> Any:
    raise EvaluationError("integer overflow")


def uint(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise EvaluationError("unsigned integer overflow")


def integer(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvaluationError("integer overflow")


def duration(nanoseconds: int) -> Duration:
    if INT_MIN <= nanoseconds <= INT_MAX:
        return Duration(nanoseconds)
    raise EvaluationError("duration overflow")


def timestamp(nanoseconds: int, offset: int = 0) -> Timestamp:
    if TIMESTAMP_MIN <= nanoseconds <= TIMESTAMP_MAX:
        return Timestamp(nanoseconds, offset)
    raise EvaluationError("timestamp overflow")


def quotient(dividend: int, divisor: int) -> int:
    """Towards zero, as Go divides."""
    if divisor == 0:
        raise EvaluationError("division by zero")
    result = abs(dividend) // abs(divisor)
    return result if (dividend < 0) is (divisor < 0) else -result


def remainder(dividend: int, divisor: int) -> int:
    """With the sign of the dividend."""
    if divisor == 0:
        raise EvaluationError("modulus by zero")
    if dividend == INT_MIN and divisor == -1:
        raise EvaluationError("integer overflow")
    result = abs(dividend) % abs(divisor)
    return -result if dividend < 0 else result


def divide_double(dividend: float, divisor: float) -> float:
    if divisor != 0:
        return dividend / divisor
    if dividend == 0 or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def add(first: Any, second: Any) -> Any:
    match first, second:
        case (Timestamp(), Duration()):
            return timestamp(first.nanoseconds + second.nanoseconds, first.offset)
        case (Duration(), Timestamp()):
            return timestamp(first.nanoseconds + second.nanoseconds, second.offset)
        case (Duration(), Duration()):
            return duration(first.nanoseconds + second.nanoseconds)
        case (list(), list()):
            return add_lists(first, second)
        case (str(), str()) | (bytes(), bytes()):
            return first + second
    return _numeric(first, second, _ADD)


def add_lists(first: list[Any], second: list[Any]) -> list[Any]:
    merge = getattr(first, "cel_add", None)
    return first + second if merge is None else merge(second)


def subtract(first: Any, second: Any) -> Any:
    match first, second:
        case (Timestamp(), Duration()):
            return timestamp(first.nanoseconds - second.nanoseconds, first.offset)
        case (Timestamp(), Timestamp()) | (Duration(), Duration()):
            return duration(first.nanoseconds - second.nanoseconds)
    return _numeric(first, second, _SUBTRACT)


def multiply(first: Any, second: Any) -> Any:
    return _numeric(first, second, _MULTIPLY)


def divide(first: Any, second: Any) -> Any:
    return _numeric(first, second, _DIVIDE)


def modulo(first: Any, second: Any) -> Any:
    if type(first) is float:
        raise EvaluationError(NO_OVERLOAD)
    return _numeric(first, second, _MODULO)


def negate(value: Any) -> Any:
    match value:
        case bool() | Uint():
            raise EvaluationError(NO_OVERLOAD)
        case int():
            return integer(-value)
        case float():
            return -value
        case Duration():
            return duration(-value.nanoseconds)
    raise EvaluationError(NO_OVERLOAD)


Operation = tuple[Callable[[int, int], int], Callable[[float, float], float]]
_ADD: Operation = (lambda a, b: a + b, lambda a, b: a + b)
_SUBTRACT: Operation = (lambda a, b: a - b, lambda a, b: a - b)
_MULTIPLY: Operation = (lambda a, b: a * b, lambda a, b: a * b)
_DIVIDE: Operation = (quotient, divide_double)
_MODULO: Operation = (remainder, math.fmod)


def _numeric(first: Any, second: Any, operation: Operation) -> Any:
    """Both operands must have one type: only comparisons cross types."""
    kind = type(first)
    if kind is not type(second):
        raise EvaluationError(NO_OVERLOAD)
    if kind is int:
        return integer(operation[0](first, second))
    if kind is float:
        return operation[1](first, second)
    if kind is Uint:
        return uint(operation[0](int(first), int(second)))
    raise EvaluationError(NO_OVERLOAD)
