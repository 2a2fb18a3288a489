"""Lists that are sets or maps: no item, or no key, may come twice (API reference, x-kubernetes-list-type)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from tiphys.api.custom.schemas import LIST_KEYS, LIST_TYPE, Schema, extra, field, items, parts
from tiphys.api.kinds.base import FieldError, duplicate, invalid

Check = Callable[[Any], bool]
_UNSPECIFIED: Any = object()


def concerned(schema: Schema | None) -> bool:
    """Whether there is a set or a map in the schema."""
    if schema is None:
        return False
    return schema.get(LIST_TYPE) in ("set", "map") or any(map(concerned, parts(schema)))


def problems(schema: Schema | None, obj: Any, path: str = "") -> list[FieldError]:
    """Everything that comes twice in an object of the schema."""
    return list(_value(schema, obj, path)) if concerned(schema) else []


def _value(schema: Schema | None, value: Any, path: str) -> Iterator[FieldError]:
    if schema is None:
        return
    if isinstance(value, list):
        yield from _list(schema, value, path)
    elif isinstance(value, Mapping):
        other = extra(schema) is not None
        for key, item in value.items():
            part = field(schema, key)
            if part is not None and concerned(part):
                where = f"{path}[{key}]" if other else f"{path}.{key}" if path else key
                yield from _value(part, item, where)


def _list(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    kind = schema.get(LIST_TYPE)
    if kind == "set":
        for i in repeated(value):
            yield duplicate(f"{path}[{i}]", value[i])
    elif kind == "map":
        yield from _map(schema.get(LIST_KEYS) or (), value, path)
    if (item := items(schema)) is not None and concerned(item):
        for i, one in enumerate(value):
            yield from _value(item, one, f"{path}[{i}]")


def _map(keys: Sequence[str], value: list[Any], path: str) -> Iterator[FieldError]:
    for i, item in enumerate(value):
        if item is not None and not isinstance(item, Mapping):
            yield invalid(f"{path}[{i}]", item, "must be an object for an array of list-type map")
            return
    found = [{key: item[key] for key in keys if key in item} if item else {} for item in value]
    for i in repeated([next(iter(key.values())) if len(keys) == 1 and key else key for key in found]):
        yield duplicate(f"{path}[{i}]", found[i])


def repeated(values: Sequence[Any]) -> list[int]:
    """The places of values that were there before; each value is named once, 1 and 1.0 are two."""
    if len(values) < 2:
        return []
    seen: dict[Any, int] = {}
    out = []
    for i, value in enumerate(values):
        key = identity(value)
        times = seen[key] = seen.get(key, 0) + 1
        if times == 2:
            out.append(i)
    return out


def identity(value: Any) -> tuple[str, Any]:
    """Something hashable that is equal for equal values of one type."""
    if isinstance(value, (Mapping, list)):
        return "json", orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return value.__class__.__name__, value
