"""ObjectMeta: the rules that hold for every kind (API conventions, "Metadata")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation import names
from tiphys.api.validation.addresses import ip_name
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import labels

Struct = Mapping[str, Any]

ANNOTATIONS_LIMIT = 256 * 1024
"""Bytes of all annotations of one object, keys and values."""
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_CHECKS = {**names.CHECKS, "ip_address": ip_name}
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_metadata(obj: Struct, name_check: str, namespaced: bool, *, finalizers: bool = True) -> Errors:
    """What is wrong with the metadata of an object that is to be created.

    `name_check` is the word of `Kind.name_check`. `finalizers` also asks for qualified finalizer names, which all
    built-in kinds but those of API extensions do.
    """
    errors = Errors()
    meta: Struct = obj.get("metadata") or {}
    _whole(errors, meta, name_check, namespaced)
    if finalizers:
        _qualified_finalizers(errors, meta.get("finalizers") or ())
    return errors


def validate_new_names(obj: Struct) -> Errors:
    """What is wrong with the names of a new object that its kind found well: they become segments of paths."""
    errors = Errors()
    _names(errors, obj.get("metadata") or {}, "path_segment")
    return errors


def _whole(errors: Errors, meta: Struct, name_check: str, namespaced: bool) -> None:
    _names(errors, meta, name_check)
    namespace = meta.get("namespace", "")
    if namespaced:
        if errors.non_empty("metadata.namespace", namespace):
            errors.each("metadata.namespace", namespace, names.dns_label(namespace))
    elif namespace:
        errors.forbidden("metadata.namespace", "not allowed on this type")
    errors.non_negative("metadata.generation", meta.get("generation"))
    _common(errors, meta)
    _finalizers(errors, meta.get("finalizers") or ())
    _managed_fields(errors, meta.get("managedFields") or ())


def _names(errors: Errors, meta: Struct, name_check: str) -> None:
    check = _CHECKS[name_check]
    # Declarative validation looks at the name alone: by then it was generated.
    if (prefix := meta.get("generateName")) and not name_check.startswith("declared"):
        errors.each("metadata.generateName", prefix, check(names.as_prefix(prefix)))
    name = meta.get("name", "")
    if errors.non_empty("metadata.name", name, "name or generateName is required"):
        errors.each("metadata.name", name, check(name))


def validate_metadata_update(new: Struct, old: Struct, *, namespaced: bool, finalizers: bool = True) -> Errors:
    """What is wrong with a change of metadata. `new` already has the fields that the server owns.

    First come the rules for every object, whose name may be any segment of a path; then those for a change, which
    are asked by the server and once more by the kind, so that answers show twice what is wrong."""
    errors = Errors()
    meta: Struct = new.get("metadata") or {}
    was: Struct = old.get("metadata") or {}
    _whole(errors, meta, "path_segment", namespaced)
    change = Errors()
    _change(change, meta, was)
    errors.extend(change)
    errors.extend(change)
    if finalizers:
        _qualified_finalizers(errors, meta.get("finalizers") or ())
    return errors


def _change(errors: Errors, meta: Struct, was: Struct) -> None:
    if was.get("deletionTimestamp"):
        _no_new_finalizers(errors, meta.get("finalizers") or (), was.get("finalizers") or ())
    if not meta.get("resourceVersion"):
        errors.invalid("metadata.resourceVersion", "", "must be specified for an update")
    generation = meta.get("generation") or 0
    if generation < (was.get("generation") or 0):
        errors.invalid("metadata.generation", generation, "must not be decremented")
    for name in _IMMUTABLE:
        value = meta.get(name, "" if name in ("name", "namespace", "uid") else None)
        errors.immutable(f"metadata.{name}", value, was.get(name))
    _common(errors, meta)
    _managed_fields(errors, meta.get("managedFields") or ())


def _common(errors: Errors, meta: Struct) -> None:
    if values := meta.get("labels"):
        labels(errors, "metadata.labels", values)
    if values := meta.get("annotations"):
        check_annotations(errors, "metadata.annotations", values)
    if owners := meta.get("ownerReferences"):
        _owner_references(errors, owners)


def check_annotations(errors: Errors, path: str, values: Mapping[str, str] | None) -> None:
    if not values:
        return
    size = 0
    for key in sorted(values):
        errors.each(path, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(values[key].encode())
    if size > ANNOTATIONS_LIMIT:
        errors.too_long(path, ANNOTATIONS_LIMIT)


def _owner_references(errors: Errors, owners: Sequence[Struct]) -> None:
    path = "metadata.ownerReferences"
    controller = ""
    for owner in owners:
        _owner_reference(errors, path, owner)
        if not owner.get("controller"):
            continue
        name = f"{owner.get('kind', '')}/{owner.get('name', '')}"
        if controller:
            detail = (
                "Only one reference can have Controller set to true. "
                f'Found "true" in references for {controller} and {name}'
            )
            errors.invalid(path, list(owners), detail)
        else:
            controller = name


def _owner_reference(errors: Errors, path: str, owner: Struct) -> None:
    version = str(owner.get("apiVersion", ""))
    if version in ("", "/") or version.count("/") > 1:
        errors.invalid(f"{path}.apiVersion", version, "version must not be empty")
    for name in ("kind", "name", "uid"):
        if not owner.get(name):
            errors.invalid(f"{path}.{name}", "", "must not be empty")
    if version == "v1" and owner.get("kind") == "Event":
        errors.invalid(path, dict(owner), "/v1, Kind=Event is disallowed from being an owner")


def _finalizers(errors: Errors, finalizers: Sequence[str]) -> None:
    path = "metadata.finalizers"
    for finalizer in finalizers:
        errors.each(path, finalizer, names.qualified_name(finalizer))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.invalid(path, list(finalizers), detail)


def qualified_finalizer(errors: Errors, path: str, finalizer: str) -> None:
    """A finalizer is a domain and a name, or one of the few that Kubernetes itself has."""
    if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
        errors.invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")


def _qualified_finalizers(errors: Errors, finalizers: Sequence[str]) -> None:
    for i, finalizer in enumerate(finalizers):
        qualified_finalizer(errors, f"metadata.finalizers[{i}]", finalizer)


def _no_new_finalizers(errors: Errors, new: Sequence[str], old: Sequence[str]) -> None:
    extra = sorted(set(new) - set(old))
    if extra:
        shown = "[]string{" + ", ".join(f'"{name}"' for name in extra) + "}"
        detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
        errors.forbidden("metadata.finalizers", detail)


def field_manager(errors: Errors, path: str, manager: str) -> None:
    """Who is said to manage fields: at most 128 bytes, printable."""
    if len(manager.encode()) > 128:
        errors.too_long(path, 128)
    for i, char in enumerate(manager):
        if not char.isprintable():
            errors.invalid(path, manager, f"invalid character U+{ord(char):04X} (at position {i})")


def _managed_fields(errors: Errors, entries: Sequence[Struct]) -> None:
    for i, entry in enumerate(entries):
        path = f"metadata.managedFields[{i}]"
        operation = entry.get("operation", "")
        if operation not in ("Apply", "Update"):
            errors.invalid(f"{path}.operation", operation, "must be `Apply` or `Update`")
        if (kind := entry.get("fieldsType", "")) not in ("", "FieldsV1"):
            errors.invalid(f"{path}.fieldsType", kind, "must be `FieldsV1`")
        field_manager(errors, f"{path}.manager", entry.get("manager", ""))
        if len(entry.get("subresource", "")) > 256:
            errors.too_long(f"{path}.subresource", 256)
