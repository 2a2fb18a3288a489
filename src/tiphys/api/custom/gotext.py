"""Values as Go writes them in messages about custom resources: numbers by %v, everything composite as sorted JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import quote

_EXPONENT = 6


def shown(value: Any) -> str:
    """A bad value of a field error."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, float):
        return number(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=isinstance(value, (Mapping, list)))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def number(value: float) -> str:
    """%v: the shortest text, with an exponent from a million on and below a ten-thousandth."""
    if isinstance(value, int):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    sign = "-" if str(value).startswith("-") else ""
    digits, power = _shortest(abs(value))
    if -4 <= power < _EXPONENT:
        return sign + _plain(digits, power)
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _shortest(value: float) -> tuple[str, int]:
    """The digits that matter, and the power of ten of the first one."""
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    lead = len(whole) - 1 if whole.strip("0") else -(len(fraction) - len(fraction.lstrip("0")) + 1)
    return digits.rstrip("0") or "0", lead + int(exponent or 0) if digits else 0


def _plain(digits: str, power: int) -> str:
    if power < 0:
        return "0." + "0" * (-power - 1) + digits
    if len(digits) <= power + 1:
        return digits + "0" * (power + 1 - len(digits))
    return f"{digits[: power + 1]}.{digits[power + 1 :]}"
