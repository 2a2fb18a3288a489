"""Lists that are sets or maps: no item, or no key, may come twice (API reference, x-kubernetes-list-type)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from tiphys.api.custom.schemas import LIST_KEYS, LIST_TYPE, Schema, extra, field, items, parts, properties
from tiphys.api.kinds.base import FieldError, duplicate, invalid

Check = Callable[[Any], bool]
_ABSENT = object()


def concerned(schema: Schema | None) -> bool:
    """Whether there is a set or a map in the schema."""
    if schema is None:
        return False
    return schema.get(LIST_TYPE) in ("set", "map") or any(map(concerned, parts(schema)))


def checker(schema: Schema | None) -> Check | None:
    """Whether nothing comes twice, quickly; None: there is nothing to look at."""
    if schema is None or not concerned(schema):
        return None
    named = {name: rule for name, part in properties(schema).items() if (rule := checker(part)) is not None}
    other, item, own = checker(extra(schema)), checker(items(schema)), _own(schema)

    def check(value: Any) -> bool:
        if value.__class__ is list:
            return (own is None or own(value)) and (item is None or all(map(item, value)))
        if not isinstance(value, dict):
            return True
        for key, rule in named.items():
            if key in value and not rule(value[key]):
                return False
        return other is None or all(other(part) for key, part in value.items() if key not in named)

    return check


def _own(schema: Schema) -> Check | None:
    kind = schema.get(LIST_TYPE)
    keys: Sequence[str] = schema.get(LIST_KEYS) or []
    if kind == "set":
        return _unique
    if kind != "map":
        return None
    if len(keys) == 1:
        key = keys[0]
        return lambda value: _unique([item[key] for item in value])
    return lambda value: _unique([tuple([item.get(key, _ABSENT) for key in keys]) for item in value])


def _unique(values: list[Any]) -> bool:
    """Whether all are different; 1, 1.0 and True count as the same here, which `problems` knows better."""
    return len(set(values)) == len(values)


def problems(schema: Schema | None, obj: Any, path: str = "") -> list[FieldError]:
    """Everything that comes twice in an object of the schema."""
    return list(_value(schema, obj, path)) if concerned(schema) else []


def quick_problems(check: Check | None, schema: Schema | None, obj: Any) -> list[FieldError]:
    """As `problems`, asking `check` (of the same schema) first."""
    try:
        if check is None or check(obj):
            return []
    except (TypeError, KeyError, AttributeError):
        pass  # items that are no objects, keys that are missing or no scalars: to be looked at one by one
    return problems(schema, obj)


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
