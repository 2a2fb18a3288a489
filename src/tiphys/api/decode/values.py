"""Single values as Go decodes and writes them back: base64, times, quantities, integers.

Each function takes a parsed JSON value and returns the canonical one, or raises Mismatch (wrong JSON type) or
ValueError (right type, bad content) with the API's words.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tiphys.api import quantity

_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")
_MICRO_LAYOUT, _MICRO_DIGITS = "2006-01-02T15:04:05.000000Z07:00", 6
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


class Mismatch(Exception):
    """A value of the wrong JSON type; `found` and `wanted` as Go's decoder names them."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(found, wanted)
        self.found, self.wanted = found, wanted


def json_type(value: Any) -> str:
    """Go's name for the type of a parsed JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def integer(value: Any, width: str) -> int:
    """An int32 or int64; numbers with a fraction or out of range are named in the error."""
    if value.__class__ is not int:
        found = f"number {_number(value)}" if isinstance(value, float) else json_type(value)
        raise Mismatch(found, width)
    low, high = _RANGES[width]
    if not low <= value <= high:
        raise Mismatch(f"number {value}", width)
    number: int = value
    return number


def number(value: Any) -> Any:
    """A float64; whole ones are written without a fraction."""
    if value.__class__ is int:
        return value
    if value.__class__ is not float:
        raise Mismatch(json_type(value), "float64")
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def octets(value: Any) -> str:
    """Base64 text, rewritten in the standard alphabet with padding."""
    if not isinstance(value, str):
        raise Mismatch(json_type(value), "[]uint8")
    text = value.replace("\n", "").replace("\r", "")
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data at input byte {_bad_byte(text)}") from error
    return base64.b64encode(raw).decode()


def amount(value: Any) -> str:
    """A quantity's canonical text; numbers count as their digits."""
    if value.__class__ is str:
        return quantity.canonical(value.strip())
    return quantity.canonical(repr(value) if value.__class__ in (int, float) else json_type(value))


def int_or_string(value: Any) -> Any:
    if value.__class__ is str:
        return value
    return integer(value, "int32")


@lru_cache(maxsize=1024)
def _time(text: str, micro: bool) -> str:
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        head, fraction, zone = match.groups()
        moment = datetime.fromisoformat(head + ("+00:00" if zone == "Z" else zone)).astimezone(UTC)
    except ValueError:
        layout = _MICRO_LAYOUT if micro else "2006-01-02T15:04:05Z07:00"
        raise ValueError(f'parsing time "{text}" as "{layout}": {_time_problem(text)}') from None
    tail = f".{(fraction or '')[:6]:0<6}" if micro else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{tail}Z".rjust(20 + len(tail), "0")


def time(value: Any) -> str:
    """metav1.Time: UTC, whole seconds."""
    if value.__class__ is not str:
        raise Mismatch(json_type(value), "string")
    return _time(value, False)


def micro_time(value: Any) -> str:
    """metav1.MicroTime: UTC, six digits of fraction."""
    if value.__class__ is not str:
        raise Mismatch(json_type(value), "string")
    match = _TIME.fullmatch(value)
    if match is not None and len(match[2] or "") != _MICRO_DIGITS:
        raise ValueError(f'parsing time "{value}" as "{_MICRO_LAYOUT}": {_fraction_problem(match)}')
    return _time(value, True)


def _fraction_problem(match: re.Match[str]) -> str:
    """Go's parser wants exactly six digits."""
    fraction = match[2] or ""
    rest = f".{fraction}{match[3]}" if fraction else match[3]
    if len(fraction) > _MICRO_DIGITS:
        return f'cannot parse "{rest[_MICRO_DIGITS + 1 :]}" as "Z07:00"'
    return f'cannot parse "{rest}" as ".000000"'


def _time_problem(text: str) -> str:
    """Where Go's time.Parse gives up; exact for text that does not begin like a date."""
    layout = (("2006", 4), ("-", 1), ("01", 2), ("-", 1), ("02", 2), ("T", 1), ("15", 2), (":", 1), ("04", 2), (":", 1))
    rest = text
    for element, width in (*layout, ("05", 2)):
        part = rest[:width]
        fits = part == element if width == 1 else len(part) == width and part.isdigit()
        if not fits:
            return f'cannot parse "{rest}" as "{element}"'
        rest = rest[width:]
    return f'cannot parse "{rest}" as "Z07:00"'


def _bad_byte(text: str) -> int:
    match = _BASE64.match(text)
    good = match.end() if match else 0
    if good == len(text):
        return good - good % 4 if good % 4 == 1 else good
    return good


def _number(value: float) -> str:
    return repr(int(value)) if value.is_integer() and abs(value) >= 2**53 else repr(value)
