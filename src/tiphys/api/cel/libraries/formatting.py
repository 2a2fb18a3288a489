"""`"...".format([...])`: the clauses %s %d %f %e %b %o %x %X, as cel-go writes them before version 4 of `strings`.

Numbers with a fraction are written for the locale en_US, as that version does: 1,234.500000 and 1.234500 × 10⁰³. What
is inside lists and maps is written as CEL literals. Source: cel-go, the documentation of string.format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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


_COMPLAINTS = {
    "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and "
    "timestamps",
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "o": "octal clause can only be used on integers",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
}


class Refused(Exception):
    """A clause does not take this value, or the format is not one; the text says why."""


def format_text(template: str, arguments: list[Any]) -> str:
    """`template` with its clauses replaced. Raises EvaluationError."""
    try:
        return _format(template, arguments)
    except Refused as error:
        raise EvaluationError(str(error)) from None


def _format(template: str, arguments: list[Any]) -> str:
    out: list[str] = []
    used = length = 0
    for text, clause in _parts(template, len(arguments)):
        out.append(text)
        if clause is None:
            continue
        try:
            out.append(clause[1](arguments[used]))
        except Refused as error:
            raise Refused(f"error during formatting: {error}") from None
        length += len(out[-1])
        check_length(length)
        used += 1
    return "".join(out)


def clauses(template: str, arguments: int) -> Iterator[str]:
    """The letters of a template's clauses. Raises Refused when it is none for so many arguments."""
    return (clause[0] for _, clause in _parts(template, arguments) if clause is not None)


def _parts(template: str, arguments: int) -> Iterator[tuple[str, tuple[str, Clause] | None]]:
    """Texts, each with the clause that follows it; the last has none."""
    used = position = 0
    while (percent := template.find("%", position)) >= 0:
        text = template[position:percent]
        if template[percent + 1 : percent + 2] == "%":
            yield f"{text}%", None
            position = percent + 2
            continue
        if used >= arguments:
            raise Refused(f"index {used} out of range")
        position, clause = _clause(template, percent + 1)
        yield text, (template[position - 1], clause)
        used += 1
    yield template[position:], None


def _clause(template: str, start: int) -> tuple[int, Clause]:
    """Where the clause that begins after a % ends, and what it does."""
    if start >= len(template):
        raise Refused("unexpected end of string")
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
        raise Refused(f'could not parse formatting clause: unrecognized formatting clause "{letter}"')
    return end + 1, _CLAUSES[letter]


def _precision(digits: str, *, at_end: bool) -> int:
    where = "could not parse formatting clause: error while parsing precision: "
    if at_end:
        raise Refused(f"{where}could not find end of precision specifier")
    if not digits:
        text = 'error while converting precision to integer: strconv.Atoi: parsing "": invalid syntax'
        raise Refused(f"{where}{text}")
    if len(digits) > 4 or int(digits) > _FINEST:
        raise Refused(f"{where}precision {digits[:20]} exceeds the limit of {_FINEST}")
    return int(digits)


def complaint(letter: str, name: str) -> str:
    """Why a clause does not take a value of the type `name`."""
    return f"{_COMPLAINTS[letter.lower()]}, was given {name}"


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
    raise Refused(complaint("s", _name(value)))


def _converted(value: Any) -> str:
    """As CEL's own `string(value)`."""
    from tiphys.api.cel.conversions import to_string

    return str(to_string(value))


def _decimal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(complaint("d", _name(value)))
    return str(int(value))


def _floating(letter: str, precision: int) -> Clause:
    def clause(value: Any) -> str:
        if not (isinstance(value, float) or value in _SPECIAL):
            raise Refused(complaint(letter, _name(value)))
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
        raise Refused(complaint("b", _name(value)))
    return f"{int(value):b}"


def _octal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(complaint("o", _name(value)))
    return f"{int(value):o}"


def _hex(value: Any) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(complaint("x", _name(value)))
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
            raise Refused(f"no formatting function for map key of type {_name(key)}")
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
    raise Refused(f"no formatting function for {_name(value)}")
