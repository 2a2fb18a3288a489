"""Rules for single values: types, enums, numbers, strings. Words and quirks are kube-openapi's.

Numbers keep the type that JSON gave them: an integer is compared with the whole part of a boundary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api.custom import formats, patterns
from tiphys.api.custom.gotext import number
from tiphys.api.custom.results import Problem
from tiphys.api.custom.schemas import INT_OR_STRING, Schema
from tiphys.api.kinds.base import ErrorType, quote

_TYPES = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", dict: "object"}
_SIZES = {"int32": 2**31, "int64": 2**63}
_MAX_FLOAT32 = 3.4028234663852886e38
_SAFE = 2**53 - 1


def json_type(value: Any) -> str:
    """The schema's name for the type of a value."""
    if isinstance(value, Mapping):
        return "object"
    return "null" if value is None else _TYPES[value.__class__]


def types(schema: Schema) -> tuple[str, ...]:
    """The types that a schema allows; () for any."""
    if schema.get(INT_OR_STRING):
        return "integer", "string"
    return (schema["type"],) if schema.get("type") else ()


def format_of(schema: Schema) -> str:
    """The format, "" if it is none that is looked at."""
    name, allowed = schema.get("format") or "", types(schema)
    return name if name and formats.known(name, allowed[0] if len(allowed) == 1 else "" if not allowed else "*") else ""


def type_problem(value: Any, allowed: tuple[str, ...], form: str, path: str, *, nullable: bool) -> Problem | None:
    """What is wrong with the type of a value."""
    if not allowed and not form:
        return None
    if value is None:
        return _wrong_type(path, ",".join(allowed), "null") if allowed and not nullable else None
    found = json_type(value)
    near = (found == "number" and "integer" in allowed and whole(value)) or (found == "integer" and "number" in allowed)
    numeric = "number" in allowed or "integer" in allowed
    if form and found in ("string", "array"):
        if not numeric:
            return None
    elif form and not (found in allowed or near or _go_format(found) == form):
        return _wrong_type(path, form, _go_format(found))
    return None if found in allowed or near else _wrong_type(path, ",".join(allowed), found)


def _go_format(found: str) -> str:
    return {"integer": "int64", "number": "float64"}.get(found, "")


def _wrong_type(path: str, wanted: str, value: Any) -> Problem:
    text = f"{path} in body must be of type {wanted}: {quote(value)}"
    return Problem(ErrorType.TYPE_INVALID, path, text, value)


def whole(value: float) -> bool:
    """Whether a number has no fraction to speak of and can be told from its neighbours."""
    if value != value or abs(value) > _SAFE:
        return False
    near = float(int(value))
    if value == near:
        return True
    difference = abs(value - near)
    return near != 0 and difference / (abs(value) + abs(near)) < 1e-9


def enum_problem(value: Any, enum: list[Any], path: str) -> Problem | None:
    if any(_is(value, one) for one in enum):
        return None
    text = f"{path} in body should be one of {enum}"
    return Problem(ErrorType.NOT_SUPPORTED, path, text, value, allowed=tuple(enum))


def _is(value: Any, wanted: Any) -> bool:
    """Equal after a conversion of numbers to the type that the enum has; null equals nothing."""
    if value is None or wanted is None:
        return False
    kind, other = value.__class__, wanted.__class__
    if other is int and kind is float:
        return bool(abs(value) < _SIZES["int64"] and int(value) == wanted)
    if other is float and kind is int:
        return bool(float(value) == wanted)
    if other is str and kind is int:
        return bool(0 <= value < 0x110000 and chr(value) == wanted)
    return kind is other and bool(value == wanted)


def string_problem(value: str, schema: Schema, path: str) -> Problem | None:
    """The first of length and pattern that a string breaks."""
    longest, shortest, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if longest is not None and len(value) > longest:
        text = f"{path} in body should be at most {longest} chars long"
        return Problem(ErrorType.TOO_LONG, path, text, value, limit=longest)
    if shortest is not None and len(value) < shortest:
        return Problem(ErrorType.INVALID, path, f"{path} in body should be at least {shortest} chars long", value)
    if pattern:
        try:
            fits = patterns.compiled(pattern)(value)
        except patterns.PatternError as error:
            fits, pattern = False, f"{pattern}, but pattern is invalid: {error}"
        if not fits:
            return Problem(ErrorType.INVALID, path, f"{path} in body should match '{pattern}'", value)
    return None


def format_problem(value: str, form: str, path: str) -> Problem | None:
    check = formats.check_of(form) if form else None
    if check is None or check(value):
        return None
    text = f"{path} in body must be of type {form}: {quote(value)}"
    return Problem(ErrorType.TYPE_INVALID, path, text, value)


def number_problems(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Range of the type, multipleOf, maximum, minimum."""
    allowed = types(schema)
    kind = allowed[0] if len(allowed) == 1 and allowed[0] in ("integer", "number") else ""
    form = format_of(schema) if kind else ""
    if problem := _range_problem("Checked", value, kind, form, path):
        yield problem
    for name, label, check in (
        ("multipleOf", "MultipleOf", _multiple),
        ("maximum", "Maximum boundary", _maximum),
        ("minimum", "Minimum boundary", _minimum),
    ):
        limit = schema.get(name)
        if limit is None:
            continue
        problem = _range_problem(label, float(limit), kind, form, path)
        if problem is not None:
            yield problem
        own = value.__class__ is int and problem is None
        exclusive = bool(schema.get(f"exclusive{name.capitalize()}"))
        text = check(value if own else float(value), int(limit) if own else float(limit), exclusive)
        if text:
            yield Problem(ErrorType.INVALID, path, text.format(path), value if own else float(value))


def _range_problem(label: str, value: Any, kind: str, form: str, path: str) -> Problem | None:
    if kind == "integer":
        limit = _SIZES.get(form, _SIZES["int64"])
        fits = value == value and abs(value) != float("inf") and value == int(value) and -limit <= value < limit
    else:
        fits = form != "float" or abs(value) <= _MAX_FLOAT32
    if fits:
        return None
    how = f"with format {form}" if form else "(default format)"
    text = f"{label} value must be of type {kind} {how} in {path}"
    return Problem(ErrorType.INVALID, path, text, "", located=False)


def _multiple(value: float, factor: float, _: bool) -> str:
    if factor <= 0:
        return f"factor MultipleOf declared for {{}} must be positive: {number(factor)}"
    if isinstance(value, int) and isinstance(factor, int):
        fits = value % factor == 0
    else:
        fits = whole(1 / factor * value if factor < 1 else value / factor)
    return "" if fits else f"{{}} in body should be a multiple of {number(factor)}"


def _maximum(value: float, limit: float, exclusive: bool) -> str:
    if value < limit or (value == limit and not exclusive):
        return ""
    return f"{{}} in body should be less than {'' if exclusive else 'or equal to '}{number(limit)}"


def _minimum(value: float, limit: float, exclusive: bool) -> str:
    if value > limit or (value == limit and not exclusive):
        return ""
    return f"{{}} in body should be greater than {'' if exclusive else 'or equal to '}{number(limit)}"
