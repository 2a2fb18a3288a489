"""Custom resources in OpenAPI documents: a schema as it is published, in v3 and in what v2 can say of it.

Definitions are called com.example.stable.v1.CronTab. What v2 has no words for goes: anyOf, nullable, the insides of
what keeps unknown fields. Source: k8s.io/apiextensions-apiserver/pkg/controller/openapi.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.custom.schemas import (
    EMBEDDED,
    INT_OR_STRING,
    JUNCTORS,
    PRESERVE,
    Schema,
    extra,
    items,
    properties,
)
from tiphys.api.schema import LIST_META, OBJECT_META, Type

Out = dict[str, Any]

_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_TEXTS = {
    "apiVersion": "APIVersion defines the versioned schema of this representation of an object. Servers should convert "
    "recognized schemas to the latest internal value, and may reject unrecognized values. More info: "
    f"{_CONVENTIONS}#resources",
    "kind": "Kind is a string value representing the REST resource this object represents. Servers may infer this from "
    "the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    f"{_CONVENTIONS}#types-kinds",
    "metadata": f"Standard object's metadata. More info: {_CONVENTIONS}#metadata",
    "items": f"More info: {_CONVENTIONS}",
    "list": f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds",
}
_EMBEDDED_TEXTS = {
    "apiVersion": "apiVersion defines the versioned schema of this representation of an object. More info: "
    f"{_CONVENTIONS}#resources",
    "kind": "kind is a string value representing the type of this object. In CamelCase. More info: "
    f"{_CONVENTIONS}#types-kinds",
}
_INT_OR_STRING: list[Out] = [{"type": "integer"}, {"type": "string"}]
_KEPT = frozenset(
    (
        "type", "nullable", "description", "title", "default", "externalDocs", "example", "format", "maximum",
        "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems",
        "uniqueItems", "multipleOf", "enum", "maxProperties", "minProperties", "required",
    )
)  # fmt: skip


class Published:
    """How a version shows in documents; `selectable` are the paths of its selectable fields."""

    def __init__(
        self, kind: tuple[str, str, str], schema: Schema | None, selectable: Sequence[str], *, keeps_unknown: bool
    ) -> None:
        self._kind, self._schema, self._keeps = kind, schema, keeps_unknown
        self._selectable = [{"fieldPath": path.removeprefix(".")} for path in selectable]

    references: tuple[str, ...] = (OBJECT_META,)
    """The definitions that it refers to."""

    def document(self, root: str, *, v3: bool) -> Out:
        """Its definition; `root` is what references begin with."""
        schema = self._schema
        if schema is None or (not v3 and (self._keeps or schema.get(PRESERVE))):
            out: Out = {"type": "object"}
        else:
            out = _schema(unfolded(schema) if v3 else _v2(unfolded(schema)))
            _embed(out, root, v3=v3)
            out["properties"] = out.get("properties", {}) | _meta(root, _TEXTS, v3=v3)
        return out | self._extensions(self._kind)

    def _extensions(self, kind: tuple[str, str, str]) -> Out:
        group, version, name = kind
        out: Out = {"x-kubernetes-group-version-kind": [{"group": group, "kind": name, "version": version}]}
        if self._selectable:
            out["x-kubernetes-selectable-fields"] = self._selectable
        return out


class PublishedList(Published):
    """The list of a version's objects."""

    def __init__(self, kind: tuple[str, str, str], item: Type, plural: str, selectable: Sequence[str]) -> None:
        super().__init__(kind, None, selectable, keeps_unknown=False)
        self._item, self._plural = item, plural
        self.references = (item.name, LIST_META)

    def document(self, root: str, *, v3: bool) -> Out:
        name = self._item.kinds[0][2]
        listed = {
            "description": f"List of {self._plural}. {_TEXTS['items']}",
            "type": "array",
            "items": {"$ref": root + self._item.name},
        }
        found = {**_meta(root, _TEXTS, v3=v3), "items": listed}
        found["metadata"] = _reference(root + LIST_META, _TEXTS["list"], v3=v3)
        return {
            "description": f"{self._kind[2]} is a list of {name}",
            "type": "object",
            "required": ["items"],
            "properties": found,
        } | self._extensions(self._kind)


def _reference(name: str, text: str, *, v3: bool) -> Out:
    """A reference with a description: v3 allows none beside $ref."""
    return {"description": text, "allOf": [{"$ref": name}]} if v3 else {"description": text, "$ref": name}


def _meta(root: str, texts: Mapping[str, str], *, v3: bool) -> Out:
    return {
        "apiVersion": {"description": texts["apiVersion"], "type": "string"},
        "kind": {"description": texts["kind"], "type": "string"},
        "metadata": _reference(root + OBJECT_META, _TEXTS["metadata"], v3=v3),
    }


def _embed(out: Out, root: str, *, v3: bool) -> None:
    """What every resource has, for those inside."""
    for part in (*out.get("properties", {}).values(), out.get("items"), out.get("additionalProperties")):
        if isinstance(part, dict):
            _embed(part, root, v3=v3)
    if not out.get(EMBEDDED) or (out.get(PRESERVE) and not v3):
        return
    out["properties"] = out.get("properties", {}) | _meta(root, _EMBEDDED_TEXTS, v3=v3)
    required = list(out.get("required", ()))
    out["required"] = [*required, *(name for name in ("kind", "apiVersion") if name not in required)]


def unfolded(schema: Schema) -> Out:
    """A copy in which x-kubernetes-int-or-string is also said by anyOf."""
    out = dict(schema)
    if (part := items(schema)) is not None:
        out["items"] = unfolded(part)
    if properties(schema):
        out["properties"] = {name: unfolded(part) for name, part in properties(schema).items()}
    if (part := extra(schema)) is not None:
        out["additionalProperties"] = unfolded(part)
    if not schema.get(INT_OR_STRING):
        return out
    first = (schema.get("allOf") or [{}])[0]
    if _INT_OR_STRING in (schema.get("anyOf"), first.get("anyOf")):
        return out
    if schema.get("anyOf"):
        out["allOf"] = [{"anyOf": _INT_OR_STRING}, *(schema.get("allOf") or ())]
    else:
        out["anyOf"] = _INT_OR_STRING
    return out


def _schema(schema: Schema) -> Out:
    """The fields of a schema that are published."""
    out = {
        name: value
        for name, value in schema.items()
        if (name in _KEPT or name.startswith("x-kubernetes-")) and not _is_unset(value)
    }
    if "default" in schema and schema["default"] is not None:
        out["default"] = schema["default"]
    for name in JUNCTORS:
        if schema.get(name):
            out[name] = [_schema(part) for part in schema[name]]
    if schema.get("not") is not None:
        out["not"] = _schema(schema["not"])
    if (part := items(schema)) is not None:
        out["items"] = _schema(part)
    if properties(schema):
        out["properties"] = {name: _schema(part) for name, part in properties(schema).items()}
    other = schema.get("additionalProperties")
    if other is not None:
        out["additionalProperties"] = _schema(other) if isinstance(other, Mapping) else other
    return out


def _is_unset(value: Any) -> bool:
    """Whether a field says nothing; 0 is a limit like others."""
    return value is None or value is False or value == "" or value == []


def _v2(schema: Schema) -> Out:
    """A schema in the words of v2."""
    out = {name: value for name, value in schema.items() if name not in (*JUNCTORS, "not", "nullable")}
    if schema.get("nullable"):
        out.pop("type", None)
    if schema.get("nullable") or schema.get(PRESERVE):
        out.pop("items", None)
        out.pop("properties", None)
    if out.get("type") == ("object" if schema.get(PRESERVE) else "array" if items(out) is None else None):
        del out["type"]
    if schema.get(PRESERVE) and out.get("type") == "array":
        del out["type"]
    _required(out)
    if (part := items(out)) is not None:
        out["items"] = _v2(part)
    if properties(out):
        out["properties"] = {name: _v2(part) for name, part in properties(out).items()}
    if (part := extra(out)) is not None:
        out["additionalProperties"] = _v2(part)
    return out


def _required(out: Out) -> None:
    """What may be null cannot be required: clients of v2 take null for absent."""
    nullable = {name for name, part in properties(out).items() if part.get("nullable")}
    other = extra(out)
    kept = [name for name in out.get("required") or () if name not in nullable]
    if not kept or (other is not None and other.get("nullable")):
        out.pop("required", None)
    else:
        out["required"] = kept
