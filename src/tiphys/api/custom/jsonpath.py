"""JSONPath as kubectl and printer columns write it (kubectl reference, "JSONPath Support"), for one expression.

`parse(".status.conditions[?(@.type=='Ready')].status")` gives a `JsonPath`; missing keys give no results. `range` and
text around expressions are kubectl's templates and not here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_TERMINATORS = " \t\r\n.,[]$@{}"
_NUMBER = re.compile(r"[+-]?[0-9.]+")
_KEY = re.compile(r"'([^']*)'")
_SLICE = re.compile(r"(-?[0-9]*)(:-?[0-9]*)?(:-?[0-9]*)?")
_COMPARED = re.compile(r"([^!<>=]+)([!<>=]+)(.+)", re.DOTALL)
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
}


class PathError(ValueError):
    """Not a path, or one that does not fit the object."""


class JsonPath:
    """A parsed expression."""

    __slots__ = ("_steps", "text")

    def __init__(self, text: str, steps: list[Step]) -> None:
        self.text, self._steps = text, steps

    def find(self, obj: Any) -> list[Any]:
        """All that the path leads to. Raises PathError."""
        return _walk(self._steps, [obj])


def parse(text: str) -> JsonPath:
    """Raises PathError."""
    return JsonPath(text, _Parser(text).steps())


def _walk(steps: list[Step], values: list[Any]) -> list[Any]:
    for step in steps:
        values = step(values)
    return values


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def steps(self) -> list[Step]:
        out: list[Step] = []
        while self._at < len(self._text):
            step = self._step()
            if step is not None:
                out += step if isinstance(step, list) else [step]
        return out

    def _step(self) -> Step | list[Step] | None:
        rest = self._text[self._at :]
        char = rest[0]
        if rest.startswith("[?("):
            return self._filter()
        if rest.startswith(".."):
            return self._recursive()
        if char in " @$":
            self._at += 1
            return None
        if char == "[":
            return self._array()
        if char in "\"'":
            return self._quoted(char)
        if char == ".":
            return self._field()
        if match := _NUMBER.match(rest):
            self._at += match.end()
            return partial(_constant, _number(match[0]))
        if char.isalnum() or char == "_":
            return self._word()
        raise PathError(
            "unclosed action" if char in "\r\n" else f"unrecognized character in action: U+{ord(char):04X} {char!r}"
        )

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in _TERMINATORS:
            self._at += 2 if self._text[self._at] == "\\" else 1
        self._at = min(self._at, len(self._text))
        return self._text[start : self._at].replace("\\", "")

    def _field(self) -> Step:
        self._at += 1
        name = self._name()
        return _wildcard if name == "*" else partial(_named, name)

    def _recursive(self) -> list[Step]:
        self._at += 2
        if self._text.startswith("..", self._at):
            raise PathError("invalid multiple recursive descent")
        out: list[Step] = [_descend]
        following = self._text[self._at : self._at + 1]
        if following.isalnum() or following == "_":
            out.append(partial(_named, self._name()))
        return out

    def _word(self) -> Step:
        word = self._name()
        if word in ("true", "false"):
            return partial(_constant, word == "true")
        raise PathError(f"unrecognized identifier {word}")

    def _quoted(self, quote: str) -> Step:
        end = self._at + 1
        while end < len(self._text) and (self._text[end] != quote or self._text[end - 1] == "\\"):
            end += 1
        if end >= len(self._text):
            raise PathError("unterminated quoted string")
        value = self._text[self._at + 1 : end].replace(f"\\{quote}", quote).replace("\\\\", "\\")
        self._at = end + 1
        return partial(_constant, value)

    def _array(self) -> Step | list[Step]:
        end = self._text.find("]", self._at)
        if end < 0 or "\n" in self._text[self._at : end]:
            raise PathError("unterminated array")
        inside, self._at = self._text[self._at + 1 : end], end + 1
        if "," in inside:
            return partial(_union, [_Parser(f"[{part.strip(' ')}]").steps() for part in inside.split(",")])
        if match := _KEY.fullmatch(inside):
            return _Parser(f".{match[1]}").steps()
        return partial(_sliced, *_bounds(":" if inside == "*" else inside))

    def _filter(self) -> Step:
        start = self._at + 3
        end = self._filter_end(start)
        if self._text[end + 1 : end + 2] != "]":
            raise PathError("unclosed array expect ]")
        self._at = end + 2
        inside = self._text[start:end]
        match = _COMPARED.fullmatch(inside)
        if match is None:
            return partial(_existing, _Parser(inside).steps())
        if match[2] not in _OPERATORS:
            raise PathError(f"unrecognized filter operator {match[2]}")
        left, right = _Parser(match[1]).steps(), _Parser(match[3]).steps()
        return partial(_compared, left, _OPERATORS[match[2]], right)

    def _filter_end(self, start: int) -> int:
        quote = ""
        for at in range(start, len(self._text)):
            char = self._text[at]
            if quote:
                quote = "" if char == quote and self._text[at - 1] != "\\" else quote
            elif char in "\"'":
                quote = char
            elif char == ")":
                return at
        raise PathError("unterminated filter")


def _number(text: str) -> int | float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise PathError(f"cannot parse number {text}") from error


def _bounds(text: str) -> tuple[int | None, int | None, int, bool]:
    """Start, end, step of [1:3:2], and whether it is the index of one item."""
    match = _SLICE.fullmatch(text)
    if match is None:
        raise PathError(f"invalid array index {text}")
    start = int(match[1]) if match[1] not in ("", "-") else None
    if match[2] is None:
        return start or 0, None, 1, True
    end = int(match[2][1:]) if len(match[2]) > 1 else None
    step = int(match[3][1:]) if match[3] and len(match[3]) > 1 else 1
    return start, end, step, False


def _constant(value: Any, values: list[Any]) -> list[Any]:
    return [value] * max(len(values), 1)


def _named(name: str, values: list[Any]) -> list[Any]:
    return [value[name] for value in values if isinstance(value, Mapping) and name in value]


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, (list, str)) else []


def _wildcard(values: list[Any]) -> list[Any]:
    return [one for value in values for one in _inside(value)]


def _descend(values: list[Any]) -> list[Any]:
    return [one for value in values for one in _all_below(value)]


def _all_below(value: Any) -> Iterator[Any]:
    if isinstance(value, (Mapping, list)) and value:
        yield value
        for one in _inside(value):
            yield from _all_below(one)


def _union(parts: list[list[Step]], values: list[Any]) -> list[Any]:
    return [one for steps in parts for one in _walk(steps, values)]


def _sliced(start: int | None, end: int | None, step: int, single: bool, values: list[Any]) -> list[Any]:
    out: list[Any] = []
    for value in values:
        if value is None:
            continue
        if not isinstance(value, list):
            raise PathError(f"{type(value).__name__} is not array or slice")
        size = len(value)
        first = (start or 0) + size if (start or 0) < 0 else start or 0
        last = first + 1 if single else size if end is None else end + size if end < 0 else end
        if first == last:
            continue
        if not (0 <= first < size and 0 <= last <= size and first < last):
            raise PathError(f"array index out of bounds: index {first}, length {size}")
        if step <= 0:
            raise PathError("step must be > 0")
        out += value[first:last:step]
    return out


def _items(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if not isinstance(value, list):
            raise PathError("is not array or slice and cannot be filtered")
        yield from value


def _existing(steps: list[Step], values: list[Any]) -> list[Any]:
    return [item for item in _items(values) if _walk(steps, [item])]


def _compared(left: list[Step], compare: Callable[[Any, Any], Any], right: list[Step], values: list[Any]) -> list[Any]:
    return [item for item in _items(values) if _holds(_walk(left, [item]), compare, _walk(right, [item]))]


def _holds(left: list[Any], compare: Callable[[Any, Any], Any], right: list[Any]) -> bool:
    if not left or not right:
        return False
    if len(left) > 1 or len(right) > 1:
        raise PathError("can only compare one element at a time")
    numbers = (int, float)
    same = left[0].__class__ is right[0].__class__ or (left[0].__class__ in numbers and right[0].__class__ in numbers)
    if not same or (isinstance(left[0], (Mapping, list, bool)) and compare not in (operator.eq, operator.ne)):
        raise PathError("incompatible types for comparison")
    return bool(compare(left[0], right[0]))
