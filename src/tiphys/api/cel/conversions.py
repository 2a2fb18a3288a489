"""Conversions between types: `int(x)`, `string(x)`, ... and the printing of doubles as Go's `%g` prints them."""

from __future__ import annotations

import math
import re
from typing import Any

from tiphys.api.cel import times
from tiphys.api.cel.arithmetic import SECOND, integer, timestamp, uint
from tiphys.api.cel.types import EvaluationError
from tiphys.api.cel.values import Duration, Timestamp, Uint, type_of

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_DOUBLE = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)",
    re.ASCII | re.IGNORECASE,
)
_EXPONENT = 6
"""From this power of ten on, Go prints the shortest digits with an exponent."""
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def _no_conversion(value: Any, target: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from '{type_of(value).name}' to '{target}'")


def to_int(value: Any) -> int:
    match value:
        case bool():
            raise _no_conversion(value, "int")
        case int():
            return integer(int(value))
        case float():
            if not math.isfinite(value) or not -(2.0**63) < value < 2.0**63:
                raise EvaluationError("integer overflow")
            return int(value)
        case str():
            return _parsed(value, "int", negative=True)
        case Timestamp():
            return value.nanoseconds // SECOND
        case Duration():
            return value.nanoseconds
    raise _no_conversion(value, "int")


def _parsed(text: str, target: str, *, negative: bool) -> int:
    if _INTEGER.fullmatch(text) and (negative or text[0] not in "+-"):
        value = int(text)
        low, high = (-(1 << 63), 1 << 63) if negative else (0, 1 << 64)
        if low <= value < high:
            return value
    raise _no_conversion(text, target)


def to_uint(value: Any) -> Uint:
    match value:
        case bool():
            raise _no_conversion(value, "uint")
        case int():
            return uint(int(value))
        case float():
            if not math.isfinite(value) or not 0 <= value < 2.0**64:
                raise EvaluationError("unsigned integer overflow")
            return Uint(int(value))
        case str():
            return Uint(_parsed(value, "uint", negative=False))
    raise _no_conversion(value, "uint")


def to_double(value: Any) -> float:
    match value:
        case bool():
            raise _no_conversion(value, "double")
        case int() | float():
            return float(value)
        case str() if _DOUBLE.fullmatch(value):
            result = float(value)
            if not math.isinf(result) or "inf" in value.lower():
                return result
    raise _no_conversion(value, "double")


def to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (value in _TRUE or value in _FALSE):
        return value in _TRUE
    raise _no_conversion(value, "bool")


def to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    raise _no_conversion(value, "bytes")


def to_string(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return print_double(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
        case Timestamp():
            return times.print_timestamp(value)
        case Duration():
            return times.print_duration(value)
    raise _no_conversion(value, "string")


def to_timestamp(value: Any) -> Timestamp:
    match value:
        case Timestamp():
            return value
        case bool():
            raise _no_conversion(value, "google.protobuf.Timestamp")
        case int():
            return timestamp(value * SECOND)
        case str():
            return times.timestamp_of(value)
    raise _no_conversion(value, "google.protobuf.Timestamp")


def to_duration(value: Any) -> Duration:
    match value:
        case Duration():
            return value
        case bool():
            raise _no_conversion(value, "google.protobuf.Duration")
        case int():
            return Duration(value)
        case str():
            return times.duration_of(value)
    raise _no_conversion(value, "google.protobuf.Duration")


def print_double(value: float) -> str:
    """The shortest digits that give the value back, with an exponent below 1e-4 and from 1e6 on."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    digits, _, exponent = _shortest(value).partition("e")
    sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
    power = int(exponent)
    if power < -4 or power >= _EXPONENT:
        head = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{sign}{head}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    whole = digits[: power + 1].ljust(power + 1, "0")
    fraction = digits[power + 1 :]
    return sign + whole + ("." + fraction if fraction else "")


def _shortest(value: float) -> str:
    """`-d+e<power>`: the digits without a point, and the power of ten of the first."""
    text = repr(value)
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    power = len(whole) - 1 + int(exponent or 0)
    stripped = digits.lstrip("0")
    power -= len(digits) - len(stripped)
    return f"{sign}{stripped.rstrip('0') or '0'}e{power}"
