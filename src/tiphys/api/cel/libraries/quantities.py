"""The `quantity` library of Kubernetes: amounts with a unit suffix."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, ClassVar

from tiphys.api import quantity
from tiphys.api.cel.costs import ONE
from tiphys.api.cel.libraries.sizes import walks
from tiphys.api.cel.types import (
    BOOL,
    DOUBLE,
    INT,
    STRING,
    EvaluationError,
    Function,
    Library,
    Overload,
    Type,
    named,
)

QUANTITY = named("kubernetes.Quantity", equality=ONE)

_NANO = 10**9
_LARGEST = 2**63 - 1
_SMALLEST = -(2**63)
_DIGITS = 18
"""Digits that upstream keeps in a whole number and a power of ten; longer ones become arbitrary decimals."""
_PARTS = re.compile(r"[+-]?0*([0-9]*)(?:\.([0-9]*))?(.*)", re.DOTALL)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


class QuantityValue:
    """An amount in nanos. `scale` is the power of ten that upstream counts in (an amount whose scale is negative is no
    integer for it, even if the digits are zeros); None for amounts it keeps as arbitrary decimals."""

    __slots__ = ("nanos", "scale")
    cel_type: ClassVar[Type] = QUANTITY

    def __init__(self, nanos: int, scale: int | None) -> None:
        self.nanos = nanos
        self.scale = scale

    @property
    def integer(self) -> int | None:
        if self.scale is None or self.scale < 0:
            return None
        value = self.nanos // _NANO
        return value if _SMALLEST <= value <= _LARGEST else None

    def plus(self, nanos: int, scale: int | None) -> QuantityValue:
        total = self.nanos + nanos
        if self.scale is None or scale is None:
            return QuantityValue(total, None)
        if not nanos or not self.nanos:
            return QuantityValue(total, scale if nanos else self.scale)
        common = min(self.scale, scale)
        fits = all(_SMALLEST <= Fraction(one, _NANO) / Fraction(10) ** common <= _LARGEST for one in (total, nanos))
        return QuantityValue(total, common if fits else None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantityValue) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


def parse(text: str) -> QuantityValue:
    try:
        return QuantityValue(quantity.parse(text).nanos, _scale(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _scale(text: str) -> int | None:
    match = _PARTS.fullmatch(text)
    assert match is not None, "it was parsed"
    whole, fraction, suffix = match[1], match[2] or "", match[3]
    if suffix in _BINARY:
        bits = 10 * (_BINARY.index(suffix) + 1)
        return 0 if not fraction and 15 - len(whole) - bits * 3 // 10 - 1 >= 0 else None
    power = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    if len(whole) + len(fraction) > _DIGITS or power - len(fraction) < -9:
        return None
    return power - len(fraction)


def _as_float(value: QuantityValue) -> float:
    return float(Fraction(value.nanos, _NANO))


def _as_integer(value: QuantityValue) -> int:
    if (found := value.integer) is None:
        raise EvaluationError("cannot convert value to integer")
    return found


def _sign(value: QuantityValue) -> int:
    return (value.nanos > 0) - (value.nanos < 0)


def _compare(value: QuantityValue, other: QuantityValue) -> int:
    return (value.nanos > other.nanos) - (value.nanos < other.nanos)


def _add(value: QuantityValue, other: QuantityValue) -> QuantityValue:
    return value.plus(other.nanos, other.scale)


def _subtract(value: QuantityValue, other: QuantityValue) -> QuantityValue:
    return value.plus(-other.nanos, other.scale)


def _member(
    name: str, id: str, implementation: Callable[..., Any], result: Type, *more: Type, member: bool = True
) -> Function:
    return Function(name, (Overload(id, (QUANTITY, *more), result, implementation, member=member),))


QUANTITIES = Library(
    "kubernetes.quantity",
    (
        Function("quantity", (Overload("string_to_quantity", (STRING,), QUANTITY, parse, **walks()),)),
        Function("isQuantity", (Overload("is_quantity_string", (STRING,), BOOL, quantity.is_quantity, **walks()),)),
        _member("sign", "quantity_sign", _sign, INT, member=False),
        _member("isGreaterThan", "quantity_is_greater_than", lambda a, b: a.nanos > b.nanos, BOOL, QUANTITY),
        _member("isLessThan", "quantity_is_less_than", lambda a, b: a.nanos < b.nanos, BOOL, QUANTITY),
        _member("compareTo", "quantity_compare_to", _compare, INT, QUANTITY),
        _member("asApproximateFloat", "quantity_get_float", _as_float, DOUBLE),
        _member("asInteger", "quantity_get_int", _as_integer, INT),
        _member("isInteger", "quantity_is_integer", lambda value: value.integer is not None, BOOL),
        _member("add", "quantity_add", _add, QUANTITY, QUANTITY),
        _member("add", "quantity_add_int", lambda value, more: value.plus(more * _NANO, 0), QUANTITY, INT),
        _member("sub", "quantity_sub", _subtract, QUANTITY, QUANTITY),
        _member("sub", "quantity_sub_int", lambda value, less: value.plus(-less * _NANO, 0), QUANTITY, INT),
    ),
    types=(QUANTITY,),
)
