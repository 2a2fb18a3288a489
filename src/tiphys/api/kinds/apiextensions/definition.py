"""Validation of a CustomResourceDefinition: names, versions, columns, subresources, selectable fields.

Imported when a definition is written: the server starts without it. Schemas are `schemas`' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiphys.api.custom import approval
from tiphys.api.custom.fieldpaths import FieldPathError, resolve
from tiphys.api.custom.formats import known
from tiphys.api.custom.pruning import DEEPEST
from tiphys.api.kinds.apiextensions import conversion
from tiphys.api.kinds.apiextensions.schemas import SchemaRules, has, has_extensions, rules_kept, too_deep, validation
from tiphys.api.kinds.apiextensions.structural import children
from tiphys.api.kinds.base import Object
from tiphys.api.meta import is_true
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns1035_label, dns_subdomain

Struct = Mapping[str, Any]

_SHARED = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MAX_SELECTABLE = 8


def new(errors: Errors, obj: Object) -> None:
    """Add what is wrong with a new definition."""
    if _too_deep(errors, obj):
        return
    spec: Struct = obj.get("spec") or {}
    wanted = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
    for field in ("generateName", "name"):
        value = (obj.get("metadata") or {}).get(field) or ""
        if value and value != wanted:
            errors.invalid(f"metadata.{field}", value, 'must be spec.names.plural+"."+spec.group')
    _all(errors, obj, {}, SchemaRules(), known_review=True)


def changed(errors: Errors, obj: Object, old: Object) -> None:
    """Add what is wrong with a changed definition; what was wrong before may mostly stay."""
    if _too_deep(errors, obj):
        return
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    reviews = ((was.get("conversion") or {}).get("webhook") or {}).get("conversionReviewVersions") or ()
    rules = rules_kept([schema for version in _versions(old) if (schema := _schema_of(version))])
    _all(errors, obj, old, rules, known_review=not reviews or any(v in conversion.REVIEWS for v in reviews))
    names, earlier = spec.get("names") or {}, was.get("names") or {}
    if is_true(old, "Established"):
        errors.immutable("spec.scope", spec.get("scope", ""), was.get("scope"))
        errors.immutable("spec.names.kind", names.get("kind", ""), earlier.get("kind"))
    errors.immutable("spec.group", spec.get("group", ""), was.get("group"))
    errors.immutable("spec.names.plural", names.get("plural", ""), earlier.get("plural"))


def _too_deep(errors: Errors, obj: Object) -> bool:
    for i, version in enumerate(_versions(obj)):
        if (schema := _schema_of(version)) is not None and too_deep(schema):
            path = f"spec.versions[{i}].schema.openAPIV3Schema"
            errors.forbidden(path, f"must not be nested deeper than {DEEPEST} levels")
    return bool(errors)


def status(errors: Errors, obj: Object) -> None:
    """Add what is wrong with a definition's status."""
    _names(errors, "status.acceptedNames", (obj.get("status") or {}).get("acceptedNames") or {})


def warnings(obj: Object, old: Object | None) -> list[str]:
    """Texts about formats that nobody looks at."""
    before = set() if old is None else set(_unknown_formats(old))
    return [f'unrecognized format "{name}"' for name in _unknown_formats(obj) if name not in before]


def _all(errors: Errors, obj: Object, old: Object, rules: SchemaRules, *, known_review: bool) -> None:
    spec: Struct = obj.get("spec") or {}
    _spec(errors, "spec", spec, rules, old.get("spec"))
    bundle = conversion.wants_bundle(old)
    conversion.check(errors, "spec.conversion", spec, known_review=known_review, bundle=bundle)
    status(errors, obj)
    stored = (obj.get("status") or {}).get("storedVersions") or []
    _stored(errors, "status.storedVersions", stored, _versions(obj))
    errors.extend(approval.problems(obj, old or None))
    if spec.get("preserveUnknownFields") and not (old.get("spec") or {}).get("preserveUnknownFields"):
        instead = "set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        errors.invalid("spec.preserveUnknownFields", True, f"cannot set to true, {instead}")


def _unknown_formats(crd: Object) -> Iterator[str]:
    for version in _versions(crd):
        if (schema := _schema_of(version)) is not None:
            yield from _formats(schema)


def _formats(schema: Struct) -> Iterator[str]:
    name = schema.get("format")
    if name and not known(name, schema.get("type") or ""):
        yield name
    for part in children(schema):
        yield from _formats(part)


def _versions(obj: Object) -> Sequence[Struct]:
    return (obj.get("spec") or {}).get("versions") or ()


def _schema_of(version: Struct) -> Struct | None:
    return (version.get("schema") or {}).get("openAPIV3Schema")


def _shared(versions: Sequence[Struct]) -> dict[str, Any]:
    """What all versions have in common, of the four things that each of them may have."""
    first = versions[0] if versions else {}
    same = [name for name in _SHARED if all((v.get(name) or None) == (first.get(name) or None) for v in versions)]
    return {name: first.get(name) for name in same}


def _shown(versions: Sequence[Struct], shared: Struct) -> list[dict[str, Any]]:
    fields = ("name", "served", "storage", "deprecated", "deprecationWarning", *_SHARED)
    zeros = {"name": "", "served": False, "storage": False, "deprecated": False}
    return [
        {f[0].upper() + f[1:]: None if f in shared else version.get(f, zeros.get(f)) for f in fields}
        for version in versions
    ]


def _spec(errors: Errors, path: str, spec: Struct, rules: SchemaRules, old: Struct | None) -> None:
    versions, names = spec.get("versions") or (), spec.get("names") or {}
    _group(errors, f"{path}.group", spec.get("group", ""))
    errors.enum(f"{path}.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    schemas = [_schema_of(version) for version in versions]
    required = old is None or all(_schema_of(version) is not None for version in old.get("versions") or ())
    for i, schema in enumerate(schemas):
        if schema is None and required:
            errors.required(f"{path}.versions[{i}].schema.openAPIV3Schema")
        elif schema is None and versions[i].get("served"):
            errors.required(f"{path}.versions[{i}].schema.openAPIV3Schema", "because otherwise all fields are pruned")
    pruned = not spec.get("preserveUnknownFields")
    if pruned or any(has(schema, "default") or has_extensions(schema) for schema in schemas):
        rules = replace(rules, structural=True)
    if not pruned and any(has(schema, "default") for schema in schemas):
        errors.invalid(f"{path}.preserveUnknownFields", True, "must be false in order to use defaults in the schema")
    shared = _shared(versions)
    for i, version in enumerate(versions):
        name, where = version.get("name", ""), f"{path}.versions[{i}]"
        if found := dns1035_label(name):
            errors.invalid(f"{where}.name", name, ",".join(found))
        own = {key: value for key, value in version.items() if key not in shared}
        kept = _unchanged(rules, [version], old)
        _version(errors, where, own, kept, has_status=_has_status(version))
    _version_list(errors, f"{path}.versions", versions, shared)
    if versions and (found := dns1035_label(versions[0].get("name", ""))) and versions[0].get("name"):
        errors.invalid(f"{path}.version", versions[0]["name"], ",".join(found))
    errors.fields(f"{path}.names", names, "plural", "singular", "kind", "listKind")
    _names(errors, f"{path}.names", names)
    kept = _unchanged(rules, versions, old)
    _parts(errors, path, shared, kept, "validation", has_status=any(map(_has_status, versions)))


def _unchanged(rules: SchemaRules, versions: Sequence[Struct], old: Struct | None) -> SchemaRules:
    """The rules for versions, some of which do not hold for what was there before."""
    was = {version.get("name"): version for version in (old or {}).get("versions") or ()}
    before = [was.get(version.get("name"), {}) for version in versions]

    def same(name: str) -> bool:
        pairs = zip(versions, before, strict=True)
        return bool(versions) and all(version.get(name) == other.get(name) and other for version, other in pairs)

    many = same("selectableFields") and all(len(one.get("selectableFields") or ()) > _MAX_SELECTABLE for one in before)
    return replace(rules, many_fields=many, any_cost=same("schema"))


def _group(errors: Errors, path: str, group: str) -> None:
    if not errors.non_empty(path, group):
        return
    if found := dns_subdomain(group):
        errors.invalid(path, group, ",".join(found))
    elif "." not in group:
        errors.invalid(path, group, "should be a domain with at least one dot")


def _has_status(version: Struct) -> bool:
    return (version.get("subresources") or {}).get("status") is not None


def _version_list(errors: Errors, path: str, versions: Sequence[Struct], shared: Struct) -> None:
    names = [version.get("name", "") for version in versions]
    if len(set(names)) < len(names):
        errors.invalid(path, _shown(versions, shared), "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.invalid(path, _shown(versions, shared) or None, detail)


def _version(errors: Errors, path: str, version: Struct, rules: SchemaRules, *, has_status: bool) -> None:
    warning = version.get("deprecationWarning")
    if warning is not None:
        for detail in _warning_problems(warning, deprecated=bool(version.get("deprecated"))):
            errors.invalid(f"{path}.deprecationWarning", warning, detail)
    _parts(errors, path, version, rules, "schema", has_status=has_status)


def _warning_problems(warning: str, *, deprecated: bool) -> list[str]:
    if not deprecated:
        return ["can only be set for deprecated versions"]
    found = ["must be <= 256 characters long"] if len(warning.encode()) > 256 else []
    if not warning:
        found.append("must not be an empty string")
    bad = next((i for i, char in enumerate(warning) if not char.isprintable()), None)
    if bad is not None:
        text = "must only contain printable UTF-8 characters; non-printable character found at index"
        found.append(f"{text} {len(warning[:bad].encode())}")
    return found


def _parts(
    errors: Errors, path: str, holder: Struct, rules: SchemaRules, schema_name: str, *, has_status: bool
) -> None:
    """Schema, subresources, columns and selectable fields, of one version or of all."""
    schema = _schema_of(holder)
    if schema is not None:
        validation(errors, f"{path}.{schema_name}", schema, rules, has_status=has_status)
    if scale := (holder.get("subresources") or {}).get("scale"):
        _scale(errors, f"{path}.subresources.scale", scale)
    for i, column in enumerate(holder.get("additionalPrinterColumns") or ()):
        _column(errors, f"{path}.additionalPrinterColumns[{i}]", column)
    if fields := holder.get("selectableFields"):
        if schema is None:
            detail = "may only be set when `version.schema.openAPIV3Schema` is not included"
            errors.invalid(f"{path}.selectableFields", "", detail)
        else:
            _selectable(errors, f"{path}.selectableFields", fields, schema, many=rules.many_fields)


def _json_path(errors: Errors, path: str, value: str) -> bool:
    if value.startswith("."):
        return True
    errors.invalid(path, value, "must be a simple json path starting with .")
    return False


def _scale(errors: Errors, path: str, scale: Struct) -> None:
    for name, root in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        value, where = scale.get(name, ""), f"{path}.{name}"
        if errors.non_empty(where, value) and _json_path(errors, where, value) and not value.startswith(f"{root}."):
            errors.invalid(where, value, f"should be a json path under {root}")
    where = f"{path}.labelSelectorPath"
    value = scale.get("labelSelectorPath")
    if value and _json_path(errors, where, value) and not value.startswith((".spec.", ".status.")):
        errors.invalid(where, value, "should be a json path under either .spec or .status")


def _column(errors: Errors, path: str, column: Struct) -> None:
    kind, form, where = column.get("type", ""), column.get("format", ""), f"{path}.JSONPath"
    errors.non_empty(f"{path}.name", column.get("name"))
    detail = f"must be one of {','.join(_COLUMN_TYPES)}"
    if errors.non_empty(f"{path}.type", kind, detail) and kind not in _COLUMN_TYPES:
        errors.invalid(f"{path}.type", kind, detail)
    if form and form not in _COLUMN_FORMATS:
        errors.invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
    if errors.non_empty(where, column.get("jsonPath")):
        _json_path(errors, where, column["jsonPath"])


def _selectable(errors: Errors, path: str, fields: Sequence[Struct], schema: Struct, *, many: bool) -> None:
    seen: set[str] = set()
    for i, field in enumerate(fields):
        where, value = f"{path}[{i}].jsonPath", field.get("jsonPath", "")
        if not errors.non_empty(where, value):
            continue
        try:
            found = resolve(value, schema, brackets=False)
        except FieldPathError as error:
            errors.invalid(where, value, f"is an invalid path: {error}")
            continue
        if found.root == "metadata":
            errors.invalid(where, value, "must not point to fields in metadata")
        if (found.schema or {}).get("type") not in ("string", "boolean", "integer"):
            detail = "must point to a field of type string, boolean or integer."
            errors.invalid(where, value, f"{detail} Enum string fields and strings with formats are allowed.")
        if found.text in seen:
            errors.duplicate(where, value)
        seen.add(found.text)
    if len(seen) > _MAX_SELECTABLE and not many:
        errors.too_many(path, len(seen), _MAX_SELECTABLE)


def _names(errors: Errors, path: str, names: Struct) -> None:
    for field in ("plural", "singular"):
        if (value := names.get(field)) and (found := dns1035_label(value)):
            errors.invalid(f"{path}.{field}", value, ",".join(found))
    for field in ("kind", "listKind"):
        if (value := names.get(field)) and (found := dns1035_label(value.lower())):
            detail = f"may have mixed case, but should otherwise match: {','.join(found)}"
            errors.invalid(f"{path}.{field}", value, detail)
    for i, value in enumerate(names.get("shortNames") or ()):
        if found := dns1035_label(value):
            errors.invalid(f"{path}.shortNames[{i}]", value, ",".join(found))
    if names.get("kind") and names["kind"] == names.get("listKind"):
        errors.invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same")
    for i, value in enumerate(names.get("categories") or ()):
        if found := dns1035_label(value):
            errors.invalid(f"{path}.categories[{i}]", value, ",".join(found))


def _stored(errors: Errors, path: str, stored: Sequence[str], versions: Sequence[Struct]) -> None:
    if not stored:
        errors.invalid(path, stored, "must have at least one stored version")
        return
    names = [version.get("name", "") for version in versions]
    for version in versions:
        if version.get("storage") and version.get("name") not in stored:
            errors.invalid(path, stored, f"must have the storage version {version.get('name', '')}")
    for i, name in enumerate(stored):
        if name not in names:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions"
                f" until a storage migration ensures no data remains persisted in {name} and removes {name}"
                " from status.storedVersions"
            )
            errors.invalid(f"{path}[{i}]", name, detail)
