"""JSON values of a schema as CEL sees them: doubles, times, bytes, and lists that are sets or maps.

A reader gets a value that its schema has accepted, or one that is converted already, and null stays null. Objects and
plain lists are left as they are; what is in them is read when an expression comes to it. `normal` readers go all the
way down: comparing two whole objects needs them.

Source: k8s.io/apiserver/pkg/cel/common/values.go; the formats are strfmt's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tiphys.api.cel import times
from tiphys.api.cel.equality import equal
from tiphys.api.cel.types import EvaluationError, Field, Type
from tiphys.api.cel.values import Duration

Reader = Callable[[Any], Any]

_SECOND = 1_000_000_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", re.ASCII)
_SPAN = re.compile(r"((?:-\s?)?[0-9]{1,15})\s*([A-Za-zµ]+)")
_SPANS = (
    (("ns", "nano"), 1),
    (("us", "µs", "micro"), 1_000),
    (("ms", "milli"), 1_000_000),
    (("s", "sec"), _SECOND),
    (("m", "min"), 60 * _SECOND),
    (("h", "hr", "hour"), 3600 * _SECOND),
    (("d", "day"), 86_400 * _SECOND),
    (("w", "wk", "week"), 604_800 * _SECOND),
)


def typed(one: Type, reader: Reader | None) -> Type:
    """The type with its reader; a list's or object's normal reader is made from those of its parts."""
    return replace(one, from_json=reader, normal=_normal(one, reader))


def double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def octets(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EvaluationError(f"Invalid byte formatted string {value}: {error}") from error


def timestamp(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = times.parse_timestamp(value.upper() + "Z" if _LOCAL.fullmatch(value) else value)
    if found is None:
        raise EvaluationError(f"Invalid date-time formatted string {value}")
    return found


def date(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = times.parse_timestamp(f"{value}T00:00:00Z") if _DATE.fullmatch(value) else None
    if found is None:
        raise EvaluationError(f"Invalid date formatted string {value}")
    return found


def duration(value: Any) -> Any:
    """Go's durations, and words: `3 days`."""
    if not isinstance(value, str):
        return value
    found = times.parse_duration(value)
    if found is not None:
        return Duration(found)
    total = [int(number.replace(" ", "")) * _unit(unit) for number, unit in _SPAN.findall(value) if _unit(unit)]
    if not total:
        raise EvaluationError(f"Invalid duration {value}: unable to parse {value} as duration")
    return Duration(sum(total))


def _unit(word: str) -> int:
    word = word.lower()
    for names, nanoseconds in _SPANS:
        if word in names or word.startswith(names[-1]):
            return nanoseconds
    return 0


class SetList(list[Any]):
    """A list of `x-kubernetes-list-type: set`: order does not matter, and `+` is the union."""

    __slots__ = ()

    def cel_equal(self, other: list[Any]) -> bool:
        return len(self) == len(other) and all(any(equal(one, mine) for mine in self) for one in other)

    def __add__(self, other: Iterable[Any]) -> SetList:
        made = SetList(self)
        for one in other:
            if not any(equal(one, known) for known in made):
                made.append(one)
        return made


class MapList(list[Any]):
    """A list of `x-kubernetes-list-type: map`: items are told by their keys, and those on the right of `+` win."""

    __slots__ = ("keys",)

    def __init__(self, items: Iterable[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def _key(self, item: Any) -> str:
        return repr([item.get(key) for key in self.keys])

    def cel_equal(self, other: list[Any]) -> bool:
        if len(self) != len(other):
            return False
        known = {self._key(item): item for item in self}
        return all(self._key(item) in known and equal(known[self._key(item)], item) for item in other)

    def __add__(self, other: Iterable[Any]) -> MapList:
        merged = {self._key(item): item for item in self}
        merged.update((self._key(item), item) for item in other)
        return MapList(merged.values(), self.keys)


def list_reader(schema: Mapping[str, Any], item: Type) -> Reader | None:
    """How a list is read by its schema's list type and its items' type; None when it stays as it is."""
    kind = schema.get("x-kubernetes-list-type")
    convert = item.from_json
    if convert is None or item.kind == "double":
        convert = None
    if kind == "set":
        return lambda items: items if items is None else SetList(items if convert is None else map(convert, items))
    if kind == "map":
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        return lambda items: items if items is None or isinstance(items, MapList) else MapList(items, keys)
    if convert is None or item.kind in ("list", "map", "object"):
        return None
    return lambda items: items if items is None else [convert(one) for one in items]


def _normal(one: Type, reader: Reader | None) -> Reader | None:
    match one.kind:
        case "object":
            return _normal_object(one.fields or {})
        case "map":
            inner = one.parameters[1].normal
            if inner is None:
                return reader
            return lambda value: {key: inner(item) for key, item in value.items()} if isinstance(value, dict) else value
        case "list":
            return _normal_list(one.parameters[0].normal, reader)
    return None if one.kind == "double" else reader


def _normal_list(inner: Reader | None, reader: Reader | None) -> Reader | None:
    if inner is None:
        return reader

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = [inner(item) for item in value]
        if isinstance(value, MapList):
            return MapList(items, value.keys)
        return items if reader is None else reader(items)

    return read


def _normal_object(fields: Mapping[str, Field]) -> Reader | None:
    readers = {field.key: field.type.normal for field in fields.values() if field.type.normal is not None}
    if not readers:
        return None

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: readers[key](item) if key in readers else item for key, item in value.items()}

    return read
