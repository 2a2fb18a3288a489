"""Defaulting: values that a schema has for what is absent, or null where null is not allowed (API reference, CRDs).

`defaulter(schema)` is a function that changes its object in place, or None when there is nothing to fill in. Parts of
a schema without defaults are not visited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tiphys.api.custom.pruning import pruner
from tiphys.api.custom.schemas import EMBEDDED, META, Schema, extra, has_default, items, properties
from tiphys.api.decode.objects import Pass

Default = Callable[[Any], None]
_CONTAINERS = frozenset((dict, list))


def defaulter(schema: Schema | None) -> Default | None:
    """The function for objects and lists of this schema."""
    if schema is None or not has_default(schema):
        return None
    objects, lists = _objects(schema), _lists(schema)
    if lists is _nothing:
        return objects

    def default(value: Any) -> None:
        if value.__class__ is dict:
            objects(value)
        else:
            lists(value)

    return default


def pruned_default(schema: Schema) -> Any:
    """The default of a schema less what the schema does not describe."""
    value = schema["default"]
    return pruner(schema)(value, Pass()) if value.__class__ in _CONTAINERS else value


def _maker(schema: Schema, *, prune: bool = True) -> Callable[[], Any] | None:
    """Makes a new value of the schema's default each time; None: it has none."""
    if schema.get("default") is None:
        return None
    value = pruned_default(schema) if prune else schema["default"]
    if value.__class__ in _CONTAINERS:
        text = orjson.dumps(value)
        return lambda: orjson.loads(text)
    return lambda: value


def _nothing(_: Any) -> None:
    return None


def _lists(schema: Schema) -> Default:
    item = items(schema)
    if item is None or not has_default(item):
        return _nothing
    inner, make, nullable = defaulter(item), _maker(item), bool(item.get("nullable"))

    def default(value: list[Any]) -> None:
        for i, one in enumerate(value):
            if one is None and not nullable and make is not None:
                one = value[i] = make()
            if inner is not None and one.__class__ in _CONTAINERS:
                inner(one)

    return default


def _objects(schema: Schema) -> Default:
    in_meta = META if schema.get(EMBEDDED) else ()
    makers = []
    below: dict[str, Default] = {}
    for name, part in properties(schema).items():
        make = _maker(part, prune=name not in in_meta)
        if make is not None:
            makers.append((name, make, bool(part.get("nullable"))))
        if (inner := defaulter(_without_default(part))) is not None:
            below[name] = inner
    named = frozenset(properties(schema))
    others = _others(extra(schema), named)

    def default(value: Any) -> None:
        if value.__class__ is not dict:
            return
        for name, make, nullable in makers:
            if name not in value or (value[name] is None and not nullable):
                value[name] = make()
        for name, inner in below.items():
            found = value.get(name)
            if found.__class__ in _CONTAINERS:
                inner(found)
        if others is not None:
            others(value)

    return default


def _others(schema: Schema | None, named: frozenset[str]) -> Default | None:
    if schema is None or not has_default(schema):
        return None
    inner, make, nullable = defaulter(schema), _maker(schema), bool(schema.get("nullable"))

    def default(value: dict[str, Any]) -> None:
        for key, item in value.items():
            if key in named:
                continue
            if item is None and not nullable and make is not None:
                item = value[key] = make()
            if inner is not None and item.__class__ in _CONTAINERS:
                inner(item)

    return default


def _without_default(schema: Schema) -> Mapping[str, Any]:
    return {name: value for name, value in schema.items() if name != "default"}
