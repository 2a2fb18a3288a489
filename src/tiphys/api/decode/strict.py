"""What strict decoding reports: the paths of unknown fields, in the order of the object.

Only walked when the fast path met an unknown field, so it may take its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiphys.api.schema import Definitions, Shape, Type

LIMIT = 100
"""Upstream reports at most this many."""


def unknown_fields(value: Any, type: Type, definitions: Definitions) -> list[str]:
    """Paths such as spec.containers[0].foo."""
    if type.custom is not None:
        return type.custom.unknown_fields(value)[:LIMIT]
    found: list[str] = []
    for path in _object(value, type, definitions, ""):
        found.append(path)
        if len(found) == LIMIT:
            break
    return found


def _object(value: Any, type: Type, definitions: Definitions, path: str) -> Iterator[str]:
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        field = type.fields.get(key)
        if field is None:
            yield where
        else:
            yield from _value(item, field.shape, definitions, where)


def _value(value: Any, shape: Shape, definitions: Definitions, path: str) -> Iterator[str]:
    if shape.kind == "object" and isinstance(value, dict):
        yield from _object(value, definitions.type(shape.type), definitions, path)
    elif shape.kind == "array" and isinstance(value, list) and shape.items is not None:
        for number, item in enumerate(value):
            yield from _value(item, shape.items, definitions, f"{path}[{number}]")
    elif shape.kind == "map" and isinstance(value, dict) and shape.items is not None:
        for key, item in value.items():
            yield from _value(item, shape.items, definitions, f"{path}.{key}")
