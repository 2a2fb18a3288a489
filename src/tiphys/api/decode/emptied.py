"""Lists and maps that a client sent empty, put back into an object that was decoded without them.

Canonical objects leave them out, for the store knows no difference between empty and absent; refusals that show a
value do: `[]` is not `null`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.schema import Definitions, Shape, Type


def with_empty(obj: Mapping[str, Any], sent: Any, type: Type, definitions: Definitions) -> dict[str, Any]:
    """A copy of `obj`, of that type, with the empty lists and maps of `sent` that it has no value for."""
    out = dict(obj)
    if not isinstance(sent, Mapping):
        return out
    for name, field in type.fields.items():
        given, value = sent.get(name), out.get(name)
        if value is not None:
            out[name] = _inside(value, given, field.shape, definitions)
        elif given in ([], {}) and field.shape.kind in ("array", "map"):
            out[name] = given.copy()
    return out


def _inside(value: Any, sent: Any, shape: Shape, definitions: Definitions) -> Any:
    if shape.kind == "object" and isinstance(value, Mapping):
        return with_empty(value, sent, definitions.type(shape.type), definitions)
    items = shape.items
    if items is None or items.kind not in ("object", "array", "map"):
        return value
    if isinstance(value, list) and isinstance(sent, list) and len(value) == len(sent):
        return [_inside(one, other, items, definitions) for one, other in zip(value, sent, strict=True)]
    if isinstance(value, Mapping) and isinstance(sent, Mapping):
        return {key: _inside(one, sent.get(key), items, definitions) for key, one in value.items()}
    return value
