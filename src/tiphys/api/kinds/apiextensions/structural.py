"""Structural schemas: what the schema of a custom resource must be to be pruned, defaulted and published.

A schema is structural when the type of every field can be told without its value validations (`anyOf`, `not` and
the like), and these say nothing but what values are well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from tiphys.api.custom import patterns
from tiphys.api.validation.errors import Errors

Schema = Mapping[str, Any]

_JUNCTORS = ("anyOf", "allOf", "oneOf")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_UNSUPPORTED = {
    "id": "id",
    "$schema": "schema",
    "$ref": "$ref",
    "patternProperties": "patternProperties",
    "dependencies": "dependencies",
    "additionalItems": "additionalItems",
    "definitions": "definitions",
}
_NESTED_FORBIDDEN = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)


class _Level(Enum):
    ROOT = "must not be empty at the root"
    ITEM = "must not be empty for specified array items"
    FIELD = "must not be empty for specified object fields"


def children(schema: Schema) -> Iterator[Schema]:
    """The schemas that are right below this one. What is none is left out: below `items` nobody decoded it."""
    for name in ("items", "not", "additionalProperties", "additionalItems"):
        value = schema.get(name)
        yield from _schemas(value if isinstance(value, list) else [value])
    for name in _JUNCTORS:
        yield from _schemas(schema.get(name))
    for name in ("properties", "patternProperties", "definitions", "dependencies"):
        value = schema.get(name)
        yield from _schemas(list(value.values()) if isinstance(value, Mapping) else ())


def _schemas(values: Any) -> Iterator[Schema]:
    yield from (value for value in values if isinstance(value, Mapping)) if isinstance(values, list) else ()


def unstructured(schema: Schema) -> str:
    """What keeps a schema from being looked at as a structural one at all; '' for nothing."""
    for name, shown in _UNSUPPORTED.items():
        if (name == "additionalItems" and schema.get(name) is not None) or schema.get(name):
            return f"OpenAPIV3Schema '{shown}' is not supported"
    if schema.get("items") and isinstance(schema["items"], list):
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        return "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined"
    return next(filter(None, map(unstructured, children(schema))), "")


def structural(path: str, schema: Schema) -> Errors:
    """What is wrong with the schema at `path`, in the order of the messages."""
    errors = Errors()
    _invariants(errors, path, schema, _Level.ROOT)
    _complete(errors, schema, schema, path, path)
    errors.sort(key=str)
    return errors


def _properties(schema: Schema) -> Mapping[str, Schema]:
    return schema.get("properties") or {}


def _invariants(errors: Errors, path: str, schema: Schema, level: _Level) -> None:
    kind, items, extra = schema.get("type", ""), schema.get("items"), schema.get("additionalProperties")
    items = None if items == [] else items  # given, but none: neither a schema nor a list of them
    if kind == "array" and items is None:
        errors.required(f"{path}.items", "must be specified")
    if items is not None:
        _invariants(errors, f"{path}.items", items, _Level.ITEM)
    for name in sorted(_properties(schema)):
        _invariants(errors, f"{path}.properties[{name}]", _properties(schema)[name], _Level.FIELD)
    if extra is not None:
        if level is _Level.ROOT:
            errors.forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(extra, Mapping):
            _invariants(errors, f"{path}.additionalProperties", extra, _Level.FIELD)
    _int_or_string(errors, path, schema)
    _values(errors, path, schema, skip_any=schema.get("anyOf") == _INT_OR_STRING, skip_first=_first_is_pattern(schema))
    _type(errors, path, schema, level)
    _metadata(errors, path, schema, level)
    embedded = schema.get("x-kubernetes-embedded-resource")
    if embedded and not schema.get("x-kubernetes-preserve-unknown-fields") and not _properties(schema):
        detail = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        errors.required(f"{path}.properties", detail)


def _first_is_pattern(schema: Schema) -> bool:
    first: Schema = (schema.get("allOf") or [{}])[0]
    return bool(first.get("anyOf") == _INT_OR_STRING)


def _int_or_string(errors: Errors, path: str, schema: Schema) -> None:
    if schema.get("x-kubernetes-int-or-string"):
        for name in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
            if schema.get(name):
                errors.invalid(f"{path}.{name}", True, "must be false if x-kubernetes-int-or-string is true")


def _type(errors: Errors, path: str, schema: Schema, level: _Level) -> None:
    kind, embedded = schema.get("type", ""), schema.get("x-kubernetes-embedded-resource")
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if embedded and kind != "object":
        detail = "must be object if x-kubernetes-embedded-resource is true"
        if kind:
            errors.invalid(f"{path}.type", kind, detail)
        else:
            errors.required(f"{path}.type", detail)
    elif not kind and not free:
        errors.required(f"{path}.type", level.value)
    if embedded and schema.get("additionalProperties") is not None:
        detail = "must not be used if x-kubernetes-embedded-resource is set"
        errors.forbidden(f"{path}.additionalProperties", detail)
    if level is _Level.ROOT and kind and kind != "object":
        errors.invalid(f"{path}.type", kind, "must be object at the root")


def _metadata(errors: Errors, path: str, schema: Schema, level: _Level) -> None:
    """apiVersion, kind and metadata of a resource are the server's business."""
    properties = _properties(schema)
    is_resource = level is _Level.ROOT or schema.get("x-kubernetes-embedded-resource")
    for name in ("kind", "apiVersion"):
        kind = properties.get(name, {}).get("type", "")
        if is_resource and name in properties and kind != "string":
            errors.invalid(f"{path}.properties[{name}].type", kind, "must be string")
    if (metadata := properties.get("metadata")) is None:
        return
    if is_resource and metadata.get("type", "") != "object":
        errors.invalid(f"{path}.properties[metadata].type", metadata.get("type", ""), "must be object")
    if level is _Level.ROOT:
        rest = {name: value for name, value in metadata.items() if name not in ("type", "default", "properties")}
        if any(rest.values()) or set(_properties(metadata)) - {"name", "generateName"}:
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            errors.forbidden(f"{path}.properties[metadata]", detail)


def _values(errors: Errors, path: str, schema: Schema, *, skip_any: bool, skip_first: bool) -> None:
    for name in _JUNCTORS:
        for i, part in enumerate(schema.get(name) or ()):
            if name != "anyOf" or not skip_any:
                skipped = name == "allOf" and i == 0 and skip_first
                _nested(errors, f"{path}.{name}[{i}]", part, skip_any=skipped)
    if (part := schema.get("not")) is not None:
        _nested(errors, f"{path}.not", part, skip_any=False)
    if pattern := schema.get("pattern"):
        try:
            patterns.compiled(pattern)
        except patterns.PatternError as problem:
            errors.invalid(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {problem}")


def _nested(errors: Errors, path: str, schema: Schema, *, skip_any: bool) -> None:
    _values(errors, path, schema, skip_any=skip_any, skip_first=False)
    if (items := schema.get("items")) is not None:
        _nested(errors, f"{path}.items", items, skip_any=False)
    for name in sorted(_properties(schema)):
        _nested(errors, f"{path}.properties[{name}]", _properties(schema)[name], skip_any=False)
    for name, detail in _NESTED_FORBIDDEN:
        value = schema.get(name)
        if value or (value is not None and name in ("additionalProperties", "default") and value is not False):
            errors.forbidden(f"{path}.{name}", detail)
    if "metadata" in _properties(schema):
        errors.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(errors: Errors, values: Schema, schema: Schema | None, path: str, where: str) -> None:
    """Each field that value validations name has to be a field of the schema proper."""
    parts = [(f"{where}.not", values["not"])] if values.get("not") is not None else []
    for name in ("allOf", "anyOf", "oneOf"):
        parts += [(f"{where}.{name}[{i}]", part) for i, part in enumerate(values.get(name) or ())]
    for place, part in parts:
        _complete_nested(errors, part, schema, path, place)


def _complete_nested(errors: Errors, values: Schema, schema: Schema | None, path: str, where: str) -> None:
    if schema is None:
        errors.required(path, f"because it is defined in {where}")
        return
    _complete(errors, values, schema, path, where)
    if (items := values.get("items")) is not None:
        _complete_nested(errors, items, schema.get("items"), f"{path}.items", f"{where}.items")
    for name in sorted(_properties(values)):
        there, place = f"{path}.properties[{name}]", f"{where}.properties[{name}]"
        _complete_nested(errors, _properties(values)[name], _properties(schema).get(name), there, place)
