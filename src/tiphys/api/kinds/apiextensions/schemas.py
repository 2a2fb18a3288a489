"""Rules of the schemas in a CustomResourceDefinition, besides that they are structural.

Rules of validation (CEL) are compiled and weighed in `rules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tiphys.api.custom.fieldpaths import FieldPathError, resolve
from tiphys.api.custom.pruning import DEEPEST
from tiphys.api.custom.schemas import RULES, some
from tiphys.api.kinds.apiextensions import defaults
from tiphys.api.kinds.apiextensions.structural import children, structural, unstructured
from tiphys.api.validation.errors import Errors

Schema = Mapping[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_META = ("metadata", "kind", "apiVersion")
_EXTENSIONS = (
    "x-kubernetes-embedded-resource",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
)
_line_break = re.compile(r"[\n\r]").search
_GO_FIELDS = {
    "ID": ("id", ""),
    "Schema": ("$schema", ""),
    "Ref": ("$ref", None),
    "Description": ("description", ""),
    "Type": ("type", ""),
    "Nullable": ("nullable", False),
    "Format": ("format", ""),
    "Title": ("title", ""),
    "Default": ("default", None),
    "Maximum": ("maximum", None),
    "ExclusiveMaximum": ("exclusiveMaximum", False),
    "Minimum": ("minimum", None),
    "ExclusiveMinimum": ("exclusiveMinimum", False),
    "MaxLength": ("maxLength", None),
    "MinLength": ("minLength", None),
    "Pattern": ("pattern", ""),
    "MaxItems": ("maxItems", None),
    "MinItems": ("minItems", None),
    "UniqueItems": ("uniqueItems", False),
    "MultipleOf": ("multipleOf", None),
    "Enum": ("enum", None),
    "MaxProperties": ("maxProperties", None),
    "MinProperties": ("minProperties", None),
    "Required": ("required", None),
    "Items": ("items", None),
    "AllOf": ("allOf", None),
    "OneOf": ("oneOf", None),
    "AnyOf": ("anyOf", None),
    "Not": ("not", None),
    "Properties": ("properties", None),
    "AdditionalProperties": ("additionalProperties", None),
    "PatternProperties": ("patternProperties", None),
    "Dependencies": ("dependencies", None),
    "AdditionalItems": ("additionalItems", None),
    "Definitions": ("definitions", None),
    "ExternalDocs": ("externalDocs", None),
    "Example": ("example", None),
    "XPreserveUnknownFields": ("x-kubernetes-preserve-unknown-fields", None),
    "XEmbeddedResource": ("x-kubernetes-embedded-resource", False),
    "XIntOrString": ("x-kubernetes-int-or-string", False),
    "XListMapKeys": ("x-kubernetes-list-map-keys", None),
    "XListType": ("x-kubernetes-list-type", None),
    "XMapType": ("x-kubernetes-map-type", None),
    "XValidations": ("x-kubernetes-validations", None),
}
"""Fields of a schema in the order and by the names that Go has for them: answers show schemas so."""
_ROOT_FIELDS = (
    "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations"
)


@dataclass(frozen=True, slots=True)
class SchemaRules:
    """Rules that schemas of older servers may break: a change keeps to them when what was stored does."""

    structural: bool = True
    valid_types: bool = True
    atomic_sets: bool = True
    map_keys: bool = True
    pruned_defaults: bool = True
    many_fields: bool = False
    """Whether there may be more selectable fields than are allowed today."""
    any_cost: bool = False
    """Whether single rules may cost what they like: the schema did not change."""
    expressions: Mapping[str, frozenset[str]] | None = None
    """Expressions that were stored before, by the field of a rule that has them."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What depends on where in the root schema a part of it is."""

    no_defaults: str | None = None
    in_meta: bool = False


def has(schema: Schema | None, *names: str) -> bool:
    """Whether the schema or any below has one of these fields set."""
    if not schema:
        return False
    if any(schema.get(name) not in (None, [], {}, "") for name in names):
        return True
    return any(has(child, *names) for child in children(schema))


def has_extensions(schema: Schema | None) -> bool:
    if not schema:
        return False
    own = any(schema.get(name) or (schema.get(name) is False and "preserve" in name) for name in _EXTENSIONS)
    return own or any(map(has_extensions, children(schema)))


def rules_kept(schemas: list[Schema]) -> SchemaRules:
    """The rules that all of these stored schemas keep to."""
    found = SchemaRules(expressions=_known(schemas))
    for schema in schemas:
        types, sets, keys = Errors(), Errors(), Errors()
        _scan(schema, types, sets, keys)
        found = replace(
            found,
            structural=found.structural and not unstructured(schema) and not structural("", schema),
            valid_types=found.valid_types and not types,
            atomic_sets=found.atomic_sets and not sets,
            map_keys=found.map_keys and not keys,
            pruned_defaults=found.pruned_defaults and not defaults.has_unpruned(schema),
        )
    return found


def _known(schemas: list[Schema]) -> Mapping[str, frozenset[str]] | None:
    if not any(some(schema, RULES) for schema in schemas):
        return None
    from tiphys.api.kinds.apiextensions.rules import known_expressions

    return known_expressions(schemas)


def _scan(schema: Schema, types: Errors, sets: Errors, keys: Errors) -> None:
    types.one_of("", schema.get("type") or None, _TYPES)
    _atomic_set(sets, "", schema)
    _map_keys(keys, "", schema)
    for child in children(schema):
        _scan(child, types, sets, keys)


def validation(errors: Errors, path: str, schema: Schema, rules: SchemaRules, *, has_status: bool) -> None:
    """The `openAPIV3Schema` of a version; `path` is that of the struct around it."""
    where, before, problem = f"{path}.openAPIV3Schema", len(errors), ""
    structured = False
    if has_status:
        _root_fields(errors, where, schema)
    if schema.get("nullable"):
        errors.forbidden(f"{where}.nullable", "nullable cannot be true at the root")
    if rules.structural:
        problem = unstructured(schema)
        found = structural(where, schema) if not problem else Errors()
        if not problem and not found:
            defaults.check(found, where, schema, pruned=rules.pruned_defaults)
        structured = not problem and not found
        errors.extend(found)
    own = Errors()
    _schema(own, where, schema, rules, _Place(), is_root=True)
    errors.extend(own)
    if structured and some(schema, RULES):
        _expressions(errors, where, schema, rules, own)
    if problem and len(errors) == before:
        errors.invalid(where, "", problem)


def too_deep(schema: Schema) -> bool:
    """Whether schemas are nested deeper than this server can follow; counted without recursion."""
    levels, present = 0, [schema]
    while present and levels <= DEEPEST:
        levels += 1
        present = [child for one in present for child in children(one)]
    return levels > DEEPEST


def _expressions(errors: Errors, path: str, schema: Schema, rules: SchemaRules, broken: Errors) -> None:
    from tiphys.api.kinds.apiextensions import rules as expressions

    how = expressions.Check(rules.expressions or expressions.Check().known, rules.any_cost)
    costs = expressions.check(errors, path, schema, how, broken)
    expressions.check_total(errors, path, costs)


def _root_fields(errors: Errors, path: str, schema: Schema) -> None:
    allowed = _ROOT_FIELDS.split()
    for name, (field, zero) in _GO_FIELDS.items():
        value = schema.get(field)
        if value is None or value == zero:
            continue
        if name == "Type" and value != "object":
            detail = (
                'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            )
            errors.invalid(f"{path}.type", value, detail)
            return
        if name not in allowed:
            where = "at the root of the schema if the status subresource is enabled"
            errors.invalid(path, _shown(schema), f"only [{_ROOT_FIELDS}] fields are allowed {where}")
            return


def _shown(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    return {name: _shown_field(name, schema.get(field), zero) for name, (field, zero) in _GO_FIELDS.items()}


def _shown_field(name: str, value: Any, zero: Any) -> Any:
    if value is None:
        return zero
    if name == "Items":
        many = isinstance(value, list)
        parts = [_shown(part) for part in value] if many else None
        return {"Schema": None if many else _shown(value), "JSONSchemas": parts}
    if name in ("AdditionalProperties", "AdditionalItems"):
        is_schema = isinstance(value, Mapping)
        return {"Allows": is_schema or value, "Schema": _shown(value) if is_schema else None}
    if name in ("AllOf", "OneOf", "AnyOf"):
        return [_shown(part) for part in value]
    if name in ("Properties", "PatternProperties", "Definitions"):
        return {key: _shown(value[key]) for key in sorted(value)}
    if name == "XValidations":
        from tiphys.api.kinds.apiextensions.rules import shown_rule

        return [shown_rule(rule) for rule in value]
    return _shown(value) if name == "Not" else value


def _schema(
    errors: Errors, path: str, schema: Schema, rules: SchemaRules, place: _Place, *, is_root: bool = False
) -> None:
    _own(errors, path, schema, rules, place)
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.forbidden(f"{path}.uniqueItems", detail)
    _below(errors, path, schema, rules, place, is_root=is_root)
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        errors.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    _topology(errors, path, schema, "map", "object", ("atomic", "granular"))
    _topology(errors, path, schema, "list", "array", ("atomic", "set", "map"))
    if rules.atomic_sets:
        _atomic_set(errors, path, schema)
    _list_map(errors, path, schema)
    if rules.map_keys:
        _map_keys(errors, path, schema)
    for i, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        _rule(errors, f"{path}.x-kubernetes-validations[{i}]", rule, schema)


def _own(errors: Errors, path: str, schema: Schema, rules: SchemaRules, place: _Place) -> None:
    kind = schema.get("type", "")
    if rules.valid_types and kind:
        errors.one_of(f"{path}.type", kind, _TYPES)
    if schema.get("default") is not None and place.no_defaults is not None:
        errors.forbidden(f"{path}.default", f"must not be set {place.no_defaults}".rstrip())
    for name in _UNSUPPORTED:
        value = schema.get(name)
        if value or (value is not None and name in ("additionalItems", "$ref")):
            errors.forbidden(f"{path}.{name}", f"{name} is not supported")
    if kind == "null":
        errors.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(schema.get("items"), list):
        errors.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.in_meta and schema.get("x-kubernetes-embedded-resource"):
        errors.forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")


def _below(errors: Errors, path: str, schema: Schema, rules: SchemaRules, place: _Place, *, is_root: bool) -> None:
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    if extra is not None and properties and extra is not True:
        errors.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if isinstance(extra, Mapping):
        reason = "inside additionalProperties applying to object metadata"
        inner = replace(place, no_defaults=reason) if place.in_meta else place
        _schema(errors, f"{path}.additionalProperties", extra, rules, inner)
    for name in sorted(properties):
        inner = place
        if name in _META and (is_root or schema.get("x-kubernetes-embedded-resource")):
            inner = _Place(f"in top-level {name}" if is_root else place.no_defaults, in_meta=True)
        _schema(errors, f"{path}.properties[{name}]", properties[name], rules, inner)
    if (part := schema.get("not")) is not None:
        _schema(errors, f"{path}.not", part, rules, place)
    for junctor in ("allOf", "oneOf", "anyOf"):
        for i, part in enumerate(schema.get(junctor) or ()):
            _schema(errors, f"{path}.{junctor}[{i}]", part, rules, place)
    for name, part in sorted((schema.get("definitions") or {}).items()):
        _schema(errors, f"{path}.definitions[{name}]", part, rules, place)
    items = schema.get("items")
    if isinstance(items, Mapping):
        _schema(errors, f"{path}.items", items, rules, place)
    for i, part in enumerate(items if isinstance(items, list) else ()):
        _schema(errors, f"{path}.items[{i}]", part, rules, place)


def _topology(errors: Errors, path: str, schema: Schema, what: str, kind: str, allowed: tuple[str, ...]) -> None:
    field = f"x-kubernetes-{what}-type"
    if (value := schema.get(field)) is None:
        return
    detail = f"must be {kind} if {field} is specified"
    if not schema.get("type"):
        errors.required(f"{path}.type", detail)
    elif schema["type"] != kind:
        errors.invalid(f"{path}.type", schema["type"], detail)
    errors.one_of(f"{path}.{field}", value, allowed)


def _item(schema: Schema) -> Schema | None:
    items = schema.get("items")
    return items if isinstance(items, Mapping) else None


def _atomic_set(errors: Errors, path: str, schema: Schema) -> None:
    item = _item(schema)
    if schema.get("x-kubernetes-list-type") != "set" or schema.get("type") != "array" or item is None:
        return
    detail, list_type = (
        "must be atomic as item of a list with x-kubernetes-list-type=set",
        item.get("x-kubernetes-list-type"),
    )
    if item.get("type") == "array" and list_type not in (None, "atomic"):
        errors.invalid(f"{path}.items.x-kubernetes-list-type", list_type, detail)
    elif item.get("type") == "object" and item.get("x-kubernetes-map-type") != "atomic":
        errors.invalid(f"{path}.items.x-kubernetes-map-type", list_type, detail)


def _list_map(errors: Errors, path: str, schema: Schema) -> None:
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if keys and kind != "map":
        where, detail = f"{path}.x-kubernetes-list-type", "must be map if x-kubernetes-list-map-keys is non-empty"
        if kind is None:
            errors.required(where, detail)
        else:
            errors.invalid(where, kind, detail)
    if kind != "map":
        return
    where = f"{path}.x-kubernetes-list-map-keys"
    errors.non_empty(where, keys, "must not be empty if x-kubernetes-list-type is map")
    if schema.get("items") is None:
        errors.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
    if (item := _item(schema)) is None:
        return
    if item.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        errors.invalid(f"{path}.items.type", item.get("type", ""), detail)
        return
    for i, key in enumerate(keys):
        _list_map_key(errors, path, item, keys, key)
        if key in keys[:i]:
            errors.invalid(where, keys, "must not contain duplicate entries")


def _list_map_key(errors: Errors, path: str, item: Schema, keys: list[str], key: str) -> None:
    field = (item.get("properties") or {}).get(key)
    if field is None:
        errors.invalid(f"{path}.x-kubernetes-list-map-keys", keys, "entries must all be names of item properties")
    elif field.get("type") in ("array", "object"):
        detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
        errors.invalid(f"{path}.items.properties[{key}].type", item.get("type"), detail)


def _map_keys(errors: Errors, path: str, schema: Schema) -> None:
    kind, item = schema.get("x-kubernetes-list-type"), _item(schema)
    if kind not in ("set", "map") or item is None:
        return
    if item.get("nullable"):
        errors.forbidden(f"{path}.items.nullable", f"cannot be nullable when x-kubernetes-list-type is {kind}")
    for key in schema.get("x-kubernetes-list-map-keys") or () if kind == "map" else ():
        field = (item.get("properties") or {}).get(key)
        if field is None:
            continue
        where, what = f"{path}.items.properties[{key}]", "this property is in x-kubernetes-list-map-keys, so it"
        if key not in (item.get("required") or ()) and field.get("default") is None:
            errors.required(f"{where}.default", f"{what} must have a default or be a required property")
        if field.get("nullable"):
            errors.forbidden(f"{where}.nullable", f"{what} cannot be nullable")


def _rule(errors: Errors, path: str, rule: Schema, schema: Schema) -> None:
    text, message = rule.get("rule", "").strip(), rule.get("message", "")
    if not text:
        errors.required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        errors.invalid(f"{path}.message", message, "must be non-empty if specified")
    elif _line_break(message.strip()):
        errors.invalid(f"{path}.message", message, "must not contain line breaks")
    elif _line_break(text) and not message.strip():
        errors.required(f"{path}.message", "message must be specified if rule contains line breaks")
    expression, where = rule.get("messageExpression", ""), rule.get("fieldPath", "")
    if expression and not expression.strip():
        errors.required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    errors.one_of(f"{path}.reason", rule.get("reason"), _REASONS)
    if where and not where.strip():
        errors.invalid(f"{path}.fieldPath", where, "must be non-empty if specified")
    if _line_break(where):
        errors.invalid(f"{path}.fieldPath", where, "must not contain line breaks")
    if where and not unstructured(schema) and not _leads_somewhere(where, schema):
        errors.invalid(f"{path}.fieldPath", where, "must be a valid path")


def _leads_somewhere(path: str, schema: Schema) -> bool:
    try:
        resolve(path, schema)
    except FieldPathError:
        return False
    return True
