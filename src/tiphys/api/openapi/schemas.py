"""Types as JSON schemas, in the dialects of OpenAPI v3 (components) and v2 (definitions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tiphys.api.schema import KINDS, Definitions, Description, Field, Shape, Type

Schema = dict[str, Any]

ENUMS = Path(__file__).parent.parent / "data" / "enums.txt"
V3_ROOT, V2_ROOT = "#/components/schemas/", "#/definitions/"

_PLAIN: Mapping[str, Schema] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "number": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
}
_EMPTY: Mapping[str, Any] = {"string": "", "int32": 0, "int64": 0, "number": 0, "boolean": False, "object": {}}
_VALUES_V3: Mapping[str, Schema] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
_VALUES_V2: Mapping[str, Schema] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
}
_NAMED_VALUES = {name: Shape(kind, name) for kind, name in KINDS.values() if name}
_VALUES: Mapping[str, Schema] = {
    "time": {"type": "string", "format": "date-time"},
    "raw": {"type": "object"},
    "any": {},
}


class SchemaWriter:
    """Writes definitions of one dialect."""

    def __init__(self, definitions: Definitions, texts: Mapping[str, Description], *, v3: bool) -> None:
        self._definitions = definitions
        self._texts = texts
        self._v3 = v3
        self._root = V3_ROOT if v3 else V2_ROOT
        self._values: dict[str, Shape] = {}
        """Named values that were referred to."""

    def closure(self, names: Iterable[str]) -> dict[str, Schema]:
        """The definitions of `names` and of all they refer to, by name."""
        out: dict[str, Schema] = {}
        waiting = sorted(set(names), reverse=True)
        while waiting:
            name = waiting.pop()
            if name in out or name in _NAMED_VALUES:
                self._values |= {name: _NAMED_VALUES[name]} if name in _NAMED_VALUES else {}
                continue
            type = self._definitions.type(name)
            if type.custom is not None:
                out[name] = type.custom.published.document(self._root, v3=self._v3)
                waiting += type.custom.published.references
                continue
            out[name] = self._type(type)
            waiting += {shape.type for shape in map(_innermost, type.fields.values()) if shape.kind == "object"}
        for name, shape in self._values.items():
            out[name] = self._value(name, shape)
        return dict(sorted(out.items()))

    def reference(self, name: str) -> Schema:
        return {"$ref": self._root + name}

    def _type(self, type: Type) -> Schema:
        text = self._texts.get(type.name, Description("", {}))
        out: Schema = {"description": text.text} if text.text else {}
        if type.fields:
            out["properties"] = {
                name: self._field(field, text.fields.get(name, ""), enums().get((type.name, name)))
                for name, field in sorted(type.fields.items())
            }
        if type.required:
            out["required"] = list(type.required)
        out["type"] = "object"
        if type.kinds:
            out["x-kubernetes-group-version-kind"] = [
                {"group": group, "kind": kind, "version": version} for group, version, kind in type.kinds
            ]
        if type.atomic:
            out["x-kubernetes-map-type"] = "atomic"
        if type.unions:
            out["x-kubernetes-unions"] = list(type.unions)
        return out

    def _field(self, field: Field, text: str, values: list[str] | None) -> Schema:
        out = self._shape(field.shape)
        if values:
            _innermost_schema(out)["enum"] = values
        if self._v3:
            self._default(field, out)
        if text:
            out["description"] = text
        if "$ref" in out and self._v3 and len(out) > 1:
            out["allOf"] = [{"$ref": out.pop("$ref")}]
        return out | _extensions(field)

    def _default(self, field: Field, out: Schema) -> None:
        kind = field.shape.kind
        if field.default is not None:
            out["default"] = field.default
        elif field.pointer:
            return
        elif kind == "object" or (kind in _EMPTY and field.always):
            out["default"] = _EMPTY[kind]

    def _shape(self, shape: Shape) -> Schema:
        if shape.kind in _PLAIN:
            return dict(_PLAIN[shape.kind])
        if shape.items is None:
            if shape.kind != "object":
                self._values[shape.type] = shape
            return self.reference(shape.type)
        items = self._shape(shape.items)
        if shape.kind == "array":
            return {"type": "array", "items": items}
        return {"type": "object", "additionalProperties": items}

    def _value(self, name: str, shape: Shape) -> Schema:
        special = (_VALUES_V3 if self._v3 else _VALUES_V2).get(name)
        text = self._texts.get(name, Description("", {})).text
        found = special if special is not None else _VALUES["time" if "time" in shape.kind else shape.kind]
        return ({"description": text} if text else {}) | found


def _innermost_schema(schema: Schema) -> Schema:
    """The schema of the items of lists and maps: values are theirs."""
    for inside in ("items", "additionalProperties"):
        if inside in schema:
            return _innermost_schema(schema[inside])
    return schema


@cache
def enums() -> Mapping[tuple[str, str], list[str]]:
    """The values of each (type, field) that has a few: `data/enums.txt` has a line a field, separated by tabs."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in ENUMS.read_text().splitlines():
        name, field, *values = line.split("\t")
        found[f"io.k8s.{name}", field] = values
    return found


def _innermost(field: Field) -> Shape:
    shape = field.shape
    while shape.items is not None:
        shape = shape.items
    return shape


def _extensions(field: Field) -> Schema:
    extensions = {
        "x-kubernetes-list-map-keys": list(field.map_keys),
        "x-kubernetes-list-type": field.list_type,
        "x-kubernetes-map-type": field.map_type,
        "x-kubernetes-patch-merge-key": field.merge_key,
        "x-kubernetes-patch-strategy": ",".join(field.strategies),
    }
    return {name: value for name, value in extensions.items() if value}
