"""The CEL type of a schema's values, with the sizes that cost estimates need (upstream: cel/common/schemas.go).

What has no length has size 0, and so have the keys of maps: upstream's estimates go by that.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from tiphys.api.cel import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    EvaluationError,
    Field,
    Type,
    list_of,
    map_of,
)
from tiphys.api.cel.conversions import to_duration, to_timestamp
from tiphys.api.custom.schemas import EMBEDDED, INT_OR_STRING, Schema, extra, items, properties

MAX_REQUEST = 3 * 1024 * 1024
"""Bytes of the largest request."""
_TEXT = {"type": "string"}
_META = {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}
_RESERVED = frozenset(
    (
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip
_SPECIAL = re.compile(r"__|[-./]")
_NAMED = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_PLAIN = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")


@dataclass(frozen=True, slots=True)
class Declared:
    """A type, and the bytes that its smallest value takes as JSON."""

    type: Type
    least: int


def declared(schema: Schema | None, *, root: bool) -> Declared | None:
    """The type of a schema's values; None: expressions cannot see them. `root`: they are resources."""
    if schema is None:
        return None
    if schema.get(INT_OR_STRING):
        longest = schema.get("maxLength")
        return Declared(DYN.with_size(MAX_REQUEST - 2 if longest is None else max(longest, 0) * 4), 1)
    if root:
        schema = {**schema, "properties": {**properties(schema), "kind": _TEXT, "apiVersion": _TEXT, "metadata": _META}}
    match schema.get("type"):
        case "array":
            return _list(schema)
        case "object":
            return _object(schema) if extra(schema) is None else _map(schema)
        case "string":
            return _string(schema)
        case "boolean":
            return Declared(BOOL.with_size(0), 4)
        case "number":
            return Declared(DOUBLE.with_size(0), 1)
        case "integer":
            return Declared(INT.with_size(0), 1)
    return None


def escaped(name: str) -> str | None:
    """A property's name as expressions write it; None: they cannot."""
    if not _PLAIN.fullmatch(name):
        return None
    return f"__{name}__" if name in _RESERVED else _SPECIAL.sub(lambda match: _NAMED[match[0]], name)


def _part(schema: Schema | None) -> Declared | None:
    return declared(schema, root=bool((schema or {}).get(EMBEDDED)))


def _list(schema: Schema) -> Declared | None:
    item = _part(items(schema))
    if item is None:
        return None
    most = schema.get("maxItems")
    size = (MAX_REQUEST - 2) // (item.least + 1) if most is None else max(most, 0)
    return Declared(list_of(item.type).with_size(size), 2)


def _map(schema: Schema) -> Declared | None:
    value = _part(extra(schema))
    if value is None:
        return None
    most = schema.get("maxProperties")
    size = (MAX_REQUEST - 2) // (value.least + 6) if most is None else max(most, 0)
    return Declared(map_of(STRING.with_size(0), value.type).with_size(size), 2)


def _object(schema: Schema) -> Declared:
    fields: dict[str, Field] = {}
    required, least = set(schema.get("required") or ()), 2
    for name, part in properties(schema).items():
        found = _part(part)
        if found is None:
            continue
        if (key := escaped(name)) is not None:
            fields[key] = Field(name, found.type)
        if name in required and part.get("default") is None:
            least += len(name.encode()) + found.least + 4
    return Declared(Type("object", "object", fields=fields, max_size=0), least)


def _string(schema: Schema) -> Declared:
    longest = schema.get("maxLength")
    match schema.get("format"):
        case "byte":
            size = MAX_REQUEST - 2 if longest is None else max(longest, 0)
            return Declared(_typed(BYTES, size, _bytes), 2)
        case "duration":
            return Declared(_typed(DURATION, 32, to_duration), 3)
        case "date":
            return Declared(_typed(TIMESTAMP, 12, _date), 12)
        case "date-time":
            return Declared(_typed(TIMESTAMP, 32, to_timestamp), 21)
    if longest is not None:
        size = max(longest, 0) * 4
    elif schema.get("enum"):
        size = max((len(one.encode()) for one in schema["enum"] if isinstance(one, str)), default=0)
    else:
        size = MAX_REQUEST - 2
    return Declared(STRING.with_size(size), 2)


def _typed(type: Type, size: int, read: Any) -> Type:
    return Type(type.kind, type.name, max_size=size, from_json=read)


def _date(value: Any) -> Any:
    try:
        return to_timestamp(f"{value}T00:00:00Z")
    except EvaluationError as error:
        raise EvaluationError(f"Invalid date formatted string {value}") from error


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError) as error:
        raise EvaluationError(f"Invalid byte formatted string {value}") from error
