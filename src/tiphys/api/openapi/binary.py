"""A Swagger document in protobuf: the form that kubectl asks for.

Fields and their numbers: OpenAPIv2.proto of gnostic-models, the message `openapi.v2.Document`. A message here is a
table from the JSON name of a field to its number and type. What begins with `x-` goes to the message's vendor
extensions, as a name and YAML (JSON is YAML).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tiphys.base.protowire import BYTES, FIXED64, VARINT, delimited, number, tag

Write = Callable[[Any], bytes]
Field = tuple[int, str]
EXTENSIONS = "x-"

_COMMON_ITEMS = ("type", "format", "items", "collectionFormat", "default", "maximum", "exclusiveMaximum", "minimum")
_LIMITS = ("exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "enum")
_VALUES = (*_COMMON_ITEMS, *_LIMITS, "multipleOf", EXTENSIONS)
_TYPES = {
    "items": "PrimitivesItems",
    "default": "any",
    "maximum": "double",
    "exclusiveMaximum": "bool",
    "minimum": "double",
    "exclusiveMinimum": "bool",
    "maxLength": "int",
    "minLength": "int",
    "maxItems": "int",
    "minItems": "int",
    "uniqueItems": "bool",
    "required": "bool",
    "allowEmptyValue": "bool",
    "enum": "[]any",
    "multipleOf": "double",
}


def _numbered(*names: str) -> dict[str, Field]:
    """Fields numbered in this order."""
    return {name: (place, _TYPES.get(name, "string")) for place, name in enumerate(names, 1)}


MESSAGES: Mapping[str, Mapping[str, Field]] = {
    "Document": {
        "swagger": (1, "string"),
        "info": (2, "Info"),
        "host": (3, "string"),
        "basePath": (4, "string"),
        "schemes": (5, "[]string"),
        "consumes": (6, "[]string"),
        "produces": (7, "[]string"),
        "paths": (8, "Paths"),
        "definitions": (9, "{}Schema"),
        "security": (12, "[]SecurityRequirement"),
        "securityDefinitions": (13, "{}SecurityDefinition"),
        EXTENSIONS: (16, "extension"),
    },
    "Info": {"title": (1, "string"), "version": (2, "string"), "description": (3, "string")},
    "PathItem": {
        "$ref": (1, "string"),
        "get": (2, "Operation"),
        "put": (3, "Operation"),
        "post": (4, "Operation"),
        "delete": (5, "Operation"),
        "options": (6, "Operation"),
        "head": (7, "Operation"),
        "patch": (8, "Operation"),
        "parameters": (9, "[]Parameter"),
        EXTENSIONS: (10, "extension"),
    },
    "Operation": {
        "tags": (1, "[]string"),
        "summary": (2, "string"),
        "description": (3, "string"),
        "operationId": (5, "string"),
        "produces": (6, "[]string"),
        "consumes": (7, "[]string"),
        "parameters": (8, "[]Parameter"),
        "responses": (9, "{}ResponseValue"),
        "schemes": (10, "[]string"),
        "deprecated": (11, "bool"),
        "security": (12, "[]SecurityRequirement"),
        EXTENSIONS: (13, "extension"),
    },
    "BodyParameter": {
        **_numbered("description", "name", "in", "required"),
        "schema": (5, "Schema"),
        EXTENSIONS: (6, "extension"),
    },
    "HeaderParameter": _numbered("required", "in", "description", "name", *_VALUES),
    "QueryParameter": _numbered("required", "in", "description", "name", "allowEmptyValue", *_VALUES),
    "PrimitivesItems": _numbered(*_VALUES),
    "Response": {"description": (1, "string"), "schema": (2, "SchemaItem"), EXTENSIONS: (5, "extension")},
    "Schema": {
        "$ref": (1, "string"),
        "format": (2, "string"),
        "title": (3, "string"),
        "description": (4, "string"),
        "default": (5, "any"),
        "multipleOf": (6, "double"),
        "maximum": (7, "double"),
        "exclusiveMaximum": (8, "bool"),
        "minimum": (9, "double"),
        "exclusiveMinimum": (10, "bool"),
        "maxLength": (11, "int"),
        "minLength": (12, "int"),
        "pattern": (13, "string"),
        "maxItems": (14, "int"),
        "minItems": (15, "int"),
        "uniqueItems": (16, "bool"),
        "maxProperties": (17, "int"),
        "minProperties": (18, "int"),
        "required": (19, "[]string"),
        "enum": (20, "[]any"),
        "additionalProperties": (21, "AdditionalProperties"),
        "type": (22, "TypeItem"),
        "items": (23, "ItemsItem"),
        "allOf": (24, "[]Schema"),
        "properties": (25, "{}Schema"),
        "discriminator": (26, "string"),
        "readOnly": (27, "bool"),
        "example": (30, "any"),
        EXTENSIONS: (31, "extension"),
    },
    "ApiKeySecurity": {**_numbered("type", "name", "in", "description"), EXTENSIONS: (5, "extension")},
}


def encode(document: Mapping[str, Any]) -> bytes:
    """The bytes of a Swagger document."""
    return _message("Document", document)


def _message(name: str, value: Mapping[str, Any]) -> bytes:
    fields, out = MESSAGES[name], []
    for key, item in value.items():
        if key.startswith(EXTENSIONS):
            out.append(_field(fields[EXTENSIONS][0], _named(key, _any(item))))
        elif key in fields:
            out.append(_write(*fields[key], item))
    return b"".join(out)


def _write(place: int, type: str, value: Any) -> bytes:
    """One field; of a list, all its items."""
    if type.startswith("[]"):
        return b"".join(_write(place, type[2:], item) for item in value)
    if type == "bool":
        return tag(place, VARINT) + number(int(value)) if value else b""
    if type == "int":
        return tag(place, VARINT) + number(value)
    if type == "double":
        return tag(place, FIXED64) + struct.pack("<d", value)
    return _field(place, _delimited(type, value))


def _delimited(type: str, value: Any) -> bytes:
    if type.startswith("{}"):
        return _map(type[2:], value, place=1)
    writer = SPECIAL.get(type)
    return writer(value) if writer else _message(type, value)


def _field(place: int, data: bytes) -> bytes:
    return tag(place, BYTES) + delimited(data)


def _named(name: str, value: bytes) -> bytes:
    return _field(1, name.encode()) + _field(2, value)


def _map(type: str, values: Mapping[str, Any], *, place: int) -> bytes:
    """A map is a list of pairs of a name and a value."""
    return b"".join(_field(place, _named(name, _delimited(type, value))) for name, value in values.items())


def _any(value: Any) -> bytes:
    return _field(2, orjson.dumps(value))


def _strings(values: Any) -> bytes:
    return _write(1, "[]string", [values] if isinstance(values, str) else values)


def _parameter(value: Mapping[str, Any]) -> bytes:
    """ParametersItem of Parameter of what `in` says. A header's parameter and a path's have the same fields."""
    place = {"header": 1, "query": 3, "path": 4}.get(value["in"])
    if place is None:
        return _field(1, _field(1, _message("BodyParameter", value)))
    message = _message("QueryParameter" if place == 3 else "HeaderParameter", value)
    return _field(1, _field(2, _field(place, message)))


def _additional(value: Any) -> bytes:
    return _write(2, "bool", value) if isinstance(value, bool) else _write(1, "Schema", value)


SPECIAL: Mapping[str, Write] = {
    "string": lambda value: value.encode(),
    "any": _any,
    "Paths": lambda value: _map("PathItem", value, place=2),
    "Parameter": _parameter,
    "ResponseValue": lambda value: _write(1, "Response", value),
    "SchemaItem": lambda value: _write(1, "Schema", value),
    "SecurityRequirement": lambda value: _map("StringArray", value, place=1),
    "SecurityDefinition": lambda value: _write(2, "ApiKeySecurity", value),
    "AdditionalProperties": _additional,
    "StringArray": _strings,
    "TypeItem": _strings,
    "ItemsItem": lambda value: _write(1, "Schema", value),
}
