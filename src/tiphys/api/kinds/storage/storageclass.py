"""StorageClass and VolumeAttributesClass (API reference, storage.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, setdefaults
from tiphys.api.kinds.deprecations import LABELS
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_name
from tiphys.api.validation.names import qualified_name

Struct = Mapping[str, Any]

_MAX_PARAMETERS, _MAX_SIZE = 512, 256 * 1024
_IMMUTABLE = ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


class StorageClass(PlainKind):
    group, plural, kind = "storage.k8s.io", "storageclasses", "StorageClass"
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Provisioner", description="@StorageClass.provisioner"),
        Column("ReclaimPolicy", description="@StorageClass.reclaimPolicy"),
        Column("VolumeBindingMode", description="@StorageClass.volumeBindingMode"),
        Column("AllowVolumeExpansion", description="@StorageClass.allowVolumeExpansion"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        setdefaults(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        provisioner(errors, "provisioner", obj.get("provisioner", ""))
        parameters(errors, "parameters", obj.get("parameters") or {})
        errors.one_of("reclaimPolicy", obj.get("reclaimPolicy") or None, ("Delete", "Retain"))
        mode = obj.get("volumeBindingMode")
        if mode is None:
            errors.required("volumeBindingMode")
        errors.one_of("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer"))
        _topologies(errors, "allowedTopologies", obj.get("allowedTopologies") or ())

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        for name in _IMMUTABLE:
            errors.immutable(name, new.get(name), old.get(name))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        return [
            f"allowedTopologies[{i}].matchLabelExpressions[{j}].key: {LABELS[expression['key']]}"
            for i, term in enumerate(obj.get("allowedTopologies") or ())
            for j, expression in enumerate(term.get("matchLabelExpressions") or ())
            if expression.get("key") in LABELS
        ]

    def cells(self, obj: Object, now: float) -> list[Any]:
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        mark = " (default)" if any(annotations.get(key) == "true" for key in _DEFAULT) else ""
        return [
            printing.name(obj) + mark,
            obj.get("provisioner", ""),
            obj.get("reclaimPolicy") or "Delete",
            obj.get("volumeBindingMode") or "Immediate",
            bool(obj.get("allowVolumeExpansion")),
            printing.age(obj, now),
        ]


class VolumeAttributesClass(PlainKind):
    group, plural, kind = "storage.k8s.io", "volumeattributesclasses", "VolumeAttributesClass"
    revalidates_metadata = True
    columns = (printing.NAME, Column("DriverName", description="@VolumeAttributesClass.driverName"), printing.AGE)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        provisioner(errors, "driverName", obj.get("driverName", ""))
        parameters(errors, "parameters", obj.get("parameters") or {})
        if not obj.get("parameters"):
            errors.required("parameters", "must contain at least one key/value pair")

    def validate_update(self, new: Object, old: Object, context: Context) -> Errors:
        errors = Errors()
        for name in ("driverName", "parameters"):
            if (new.get(name) or None) != (old.get(name) or None):
                errors.forbidden(name, f"updates to {name} are forbidden.")
        errors.extend(super().validate_update(new, old, context))
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), obj.get("driverName", ""), printing.age(obj, now)]


def provisioner(errors: Errors, path: str, name: str) -> None:
    if errors.non_empty(path, name):
        errors.each(path, name.lower(), qualified_name(name.lower()))


def parameters(errors: Errors, path: str, values: Mapping[str, str]) -> None:
    if len(values) > _MAX_PARAMETERS:
        errors.too_long(path, _MAX_PARAMETERS)
        return
    if "" in values:
        errors.invalid(path, "", "field can not be empty.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in values.items()) > _MAX_SIZE:
        errors.too_long(path, _MAX_SIZE)


def _topologies(errors: Errors, path: str, terms: Sequence[Struct]) -> None:
    # A term without expressions is a duplicate of nothing, once for each term: upstream compares it so.
    seen: list[dict[str, frozenset[str]]] = [{} for _ in terms]
    for i, term in enumerate(terms):
        found: dict[str, frozenset[str]] = {}
        for j, expression in enumerate(term.get("matchLabelExpressions") or ()):
            where, key = f"{path}[{i}].matchLabelExpressions[{j}]", expression.get("key", "")
            values = _topology_values(errors, f"{where}.values", expression.get("values") or ())
            label_name(errors, f"{where}.key", key)
            if key in found:
                errors.duplicate(f"{where}.key", key)
            found[key] = values
        for other in seen:
            if other == found:
                errors.duplicate(f"{path}[{i}].matchLabelExpressions", "")
        seen.append(found)


def _topology_values(errors: Errors, path: str, values: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    errors.non_empty(path, values)
    for i, value in enumerate(values):
        if value in found:
            errors.duplicate(f"{path}[{i}]", value)
        found.add(value)
    return frozenset(found)
