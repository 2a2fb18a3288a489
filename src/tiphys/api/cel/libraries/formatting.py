"""`"...".format([...])`: the clauses %s %d %f %e %b %o %x %X, as cel-go writes them before version 4 of `strings`.

Numbers with a fraction are written for the locale en_US, as that version does: 1,234.500000 and 1.234500 × 10⁰³. What
is inside lists and maps is written as CEL literals. Source: cel-go, the documentation of string.format.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tiphys.api.cel.libraries.text import check_length
from tiphys.api.cel.types import EvaluationError, Type
from tiphys.api.cel.values import Duration, Timestamp, Uint, type_of
from tiphys.api.kinds.base import quote

Clause = Callable[[Any], str]

_PRECISION = 6
_FINEST = 1000
"""Digits after the point that may be asked for."""
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SPECIAL = ("NaN", "Infinity", "-Infinity")


class _Refused(Exception):
    """A clause does not take this value, or the format is not one; the text says why."""


def format_text(template: str, arguments: list[Any]) -> str:
    """`template` with its clauses replaced. Raises EvaluationError."""
    try:
        return _format(template, arguments)
    except _Refused as error:
        raise EvaluationError(str(error)) from None


def _format(template: str, arguments: list[Any]) -> str:
    out: list[str] = []
    used = position = length = 0
    while (percent := template.find("%", position)) >= 0:
        out.append(template[position:percent])
        if template[percent + 1 : percent + 2] == "%":
            out.append("%")
            position = percent + 2
            continue
        if used >= len(arguments):
            raise _Refused(f"index {used} out of range")
        position, clause = _clause(template, percent + 1)
        try:
            out.append(clause(arguments[used]))
        except _Refused as error:
            raise _Refused(f"error during formatting: {error}") from None
        length += len(out[-1])
        check_length(length)
        used += 1
    out.append(template[position:])
    return "".join(out)


def _clause(template: str, start: int) -> tuple[int, Clause]:
    """Where the clause that begins after a % ends, and what it does."""
    if start >= len(template):
        raise _Refused("unexpected end of string")
    end, precision = start, None
    if template[start] == ".":
        end += 1
        while end < len(template) and template[end] in "0123456789":
            end += 1
        precision = _precision(template[start + 1 : end], at_end=end >= len(template))
    letter = template[end]
    if letter in "fe":
        return end + 1, _floating(letter, _PRECISION if precision is None else precision)
    if letter not in _CLAUSES:
        raise _Refused(f'could not parse formatting clause: unrecognized formatting clause "{letter}"')
    return end + 1, _CLAUSES[letter]


def _precision(digits: str, *, at_end: bool) -> int:
    where = "could not parse formatting clause: error while parsing precision: "
    if at_end:
        raise _Refused(f"{where}could not find end of precision specifier")
    if not digits:
        text = 'error while converting precision to integer: strconv.Atoi: parsing "": invalid syntax'
        raise _Refused(f"{where}{text}")
    if len(digits) > 4 or int(digits) > _FINEST:
        raise _Refused(f"{where}precision {digits[:20]} exceeds the limit of {_FINEST}")
    return int(digits)


def _name(value: Any) -> str:
    return type_of(value).name


def _string(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return _list(value)
    if isinstance(value, dict):
        return _map(value)
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float, bytes, Timestamp, Duration)):
        return _converted(value)
    if isinstance(value, Type):
        return value.name
    types = "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
    raise _Refused(f"string clause can only be used on {types}, was given {_name(value)}")


def _converted(value: Any) -> str:
    """As CEL's own `string(value)`."""
    from tiphys.api.cel.conversions import to_string

    return str(to_string(value))


def _decimal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Refused(f"decimal clause can only be used on integers, was given {_name(value)}")
    return str(int(value))


def _floating(letter: str, precision: int) -> Clause:
    name = "fixed-point" if letter == "f" else "scientific"

    def clause(value: Any) -> str:
        if not (isinstance(value, float) or value in _SPECIAL):
            raise _Refused(f"{name} clause can only be used on doubles, was given {_name(value)}")
        number = float(value)
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "∞" if number > 0 else "-∞"
        return f"{number:,.{precision}f}" if letter == "f" else _scientific(number, precision)

    return clause


def _scientific(number: float, precision: int) -> str:
    mantissa, _, exponent = f"{number:.{precision}e}".partition("e")
    sign, digits = exponent[0].removeprefix("+"), exponent[1:]
    return f"{mantissa}\u202f×\u202f10{(sign + digits).translate(_SUPERSCRIPTS)}"


def _binary(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, int):
        raise _Refused(f"only integers and bools can be formatted as binary, was given {_name(value)}")
    return f"{int(value):b}"


def _octal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Refused(f"octal clause can only be used on integers, was given {_name(value)}")
    return f"{int(value):o}"


def _hex(value: Any) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Refused(f"only integers, byte buffers, and strings can be formatted as hex, was given {_name(value)}")
    return f"{int(value):x}"


_CLAUSES: dict[str, Clause] = {
    "s": _string,
    "d": _decimal,
    "b": _binary,
    "o": _octal,
    "x": _hex,
    "X": lambda value: _hex(value).upper(),
}


def _list(items: list[Any]) -> str:
    return f"[{', '.join(map(_literal, items))}]"


def _map(entries: dict[Any, Any]) -> str:
    pairs = []
    for key, value in entries.items():
        if not isinstance(key, (str, bool, int)):
            raise _Refused(f"no formatting function for map key of type {_name(key)}")
        pairs.append((_literal(key), _literal(value)))
    return "{" + ", ".join(f"{key}:{value}" for key, value in sorted(pairs, key=lambda pair: pair[0])) + "}"


def _literal(value: Any) -> str:
    """A member of a list or map as CEL writes it."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bytes):
        return f"b{quote(_string(value))}"
    if isinstance(value, (bool, type(None), Type, list, dict)):
        return _string(value)
    if isinstance(value, (int, Uint)):
        return str(int(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return f"{value:.6f}"
        return '"NaN"' if math.isnan(value) else '"+Inf"' if value > 0 else '"-Inf"'
    if isinstance(value, (Timestamp, Duration)):
        function = "timestamp" if isinstance(value, Timestamp) else "duration"
        return f'{function}("{_converted(value)}")'
    raise _Refused(f"no formatting function for {_name(value)}")
