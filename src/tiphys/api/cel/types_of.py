"""Types of CEL from OpenAPI schemas: what `self` is in a rule, what `object` and `params` are in a policy.

`schema(...)` takes a schema as JSON (a CustomResourceDefinition's, or a published one without references) and gives the
type that expressions see: integers are int, numbers double, strings by their format timestamp, duration or bytes,
int-or-string is dyn, objects have their properties under escaped names. What a schema leaves open is not there: fields
without a type, unknown fields that are preserved. Types carry the largest sizes by the schema, and how a JSON value
becomes the value CEL sees (a timestamp, a set that compares without order) when they differ.

Sources: k8s.io/apiserver/pkg/cel/common/schemas.go and values; escaping.go for names; the sizes are upstream's, in
bytes of a request of at most 3 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tiphys.api.cel import jsonvalues
from tiphys.api.cel.lexer import RESERVED
from tiphys.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Field,
    Type,
    list_of,
    map_of,
    named,
)

Schema = Mapping[str, Any]

MAX_REQUEST = 3 * 1024 * 1024
MAX_STRING = MAX_REQUEST - 2
_ESCAPED = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_SPECIAL = re.compile(r"__|[-./]")
_ALLOWED = re.compile(r"[a-zA-Z_./\-][a-zA-Z0-9_./\-]*", re.ASCII)
_META: Schema = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
}


def escape(name: str) -> str | None:
    """How an expression writes a field's name; None when it cannot."""
    if name in RESERVED:
        return f"__{name}__"
    if not _ALLOWED.fullmatch(name):
        return None
    return _SPECIAL.sub(lambda match: _ESCAPED[match.group()], name)


def schema(one: Schema, *, root: bool = False, name: str = "selfType") -> Type | None:
    """The type of a schema; None when expressions must not see such values.

    `root` for the schema of a whole object: apiVersion, kind, metadata.name and metadata.generateName are there then,
    whether or not the schema has them. `name` begins the names of object types.
    """
    found = _declared(one, root or _flag(one, "embedded-resource"), name)
    return None if found is None else found.type


def smallest_size(one: Schema, *, root: bool = False) -> int:
    """The fewest bytes a value takes in JSON: bounds how often it can occur in one request."""
    found = _declared(one, root or _flag(one, "embedded-resource"), "")
    return 0 if found is None else found.smallest


class _Declared(NamedTuple):
    type: Type
    smallest: int
    """Bytes of the smallest value in JSON."""


def _flag(one: Schema, extension: str) -> bool:
    return bool(one.get(f"x-kubernetes-{extension}"))


def _declared(one: Schema, root: bool, name: str) -> _Declared | None:
    if _flag(one, "int-or-string"):
        length = one.get("maxLength")
        return _Declared(DYN.with_size(MAX_STRING if length is None else max(length, 0) * 4), 1)
    properties = _with_metadata(one) if root else one.get("properties") or {}
    match "object" if root and not one.get("type") else one.get("type"):
        case "array":
            return _array(one, name)
        case "object":
            return _object(one, properties, name)
        case "string":
            return _string(one)
        case "boolean":
            return _Declared(BOOL.with_size(0), 4)
        case "number":
            return _Declared(jsonvalues.typed(DOUBLE, jsonvalues.double).with_size(0), 1)
        case "integer":
            return _Declared(INT.with_size(0), 1)
    return None


def _with_metadata(one: Schema) -> Mapping[str, Any]:
    properties = one.get("properties") or {}
    metadata = properties.get("metadata") or {}
    known = metadata.get("properties") or {}
    complete = (
        all((properties.get(key) or {}).get("type") == "string" for key in ("kind", "apiVersion"))
        and metadata.get("type") == "object"
        and all((known.get(key) or {}).get("type") == "string" for key in ("name", "generateName"))
    )
    if complete:
        return dict(properties)
    return {**properties, "kind": {"type": "string"}, "apiVersion": {"type": "string"}, "metadata": _META}


def _embedded(one: Schema, name: str) -> _Declared | None:
    return _declared(one, _flag(one, "embedded-resource"), name)


def _array(one: Schema, name: str) -> _Declared | None:
    items = one.get("items")
    item = None if not isinstance(items, Mapping) else _embedded(items, f"{name}.@idx")
    if item is None:
        return None
    limit = one.get("maxItems")
    size = (MAX_REQUEST - 2) // (item.smallest + 1) if limit is None else max(limit, 0)
    made = list_of(item.type, size)
    return _Declared(jsonvalues.typed(made, jsonvalues.list_reader(one, item.type)), 2)


def _object(one: Schema, properties: Mapping[str, Any], name: str) -> _Declared | None:
    values = one.get("additionalProperties")
    if isinstance(values, Mapping) and values:
        return _map(one, values, name)
    fields: dict[str, Field] = {}
    required = frozenset(one.get("required") or ())
    smallest = 2
    for key, property_schema in properties.items():
        escaped = escape(key)
        found = _embedded(property_schema, f"{name}.{escaped or key}")
        if found is None:
            continue
        if escaped is not None:
            fields[escaped] = Field(key, found.type, null_is_absent=True)
            if key in RESERVED:
                fields[key] = fields[escaped]
        if key in required and property_schema.get("default") is None:
            smallest += len(key.encode()) + found.smallest + 4
    made = named(name, fields).with_size(0)
    return _Declared(jsonvalues.typed(made, None), smallest)


def _map(one: Schema, values: Schema, name: str) -> _Declared | None:
    value = _embedded(values, f"{name}.@elem")
    if value is None:
        return None
    limit = one.get("maxProperties")
    size = (MAX_REQUEST - 2) // (value.smallest + 6) if limit is None else max(limit, 0)
    made = map_of(STRING.with_size(0), value.type, size)
    return _Declared(jsonvalues.typed(made, None), 2)


def _string(one: Schema) -> _Declared:
    length, form = one.get("maxLength"), one.get("format")
    match form:
        case "byte":
            size = MAX_STRING if length is None else max(length, 0)
            return _Declared(jsonvalues.typed(BYTES, jsonvalues.octets).with_size(size), 2)
        case "duration":
            return _Declared(jsonvalues.typed(DURATION, jsonvalues.duration).with_size(32), 3)
        case "date":
            return _Declared(jsonvalues.typed(TIMESTAMP, jsonvalues.date).with_size(12), 12)
        case "date-time":
            return _Declared(jsonvalues.typed(TIMESTAMP, jsonvalues.timestamp).with_size(32), 21)
    if length is not None:
        size = max(length, 0) * 4
    elif one.get("enum"):
        size = max((len(value.encode()) for value in one["enum"] if isinstance(value, str)), default=0)
    else:
        size = MAX_STRING
    return _Declared(STRING.with_size(size), 2)
