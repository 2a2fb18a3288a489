"""PersistentVolumeClaim (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.amounts import round_up
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, fill_empty
from tiphys.api.kinds.core.persistentvolume import BETA_CLASS, attributes_class_of, class_of, modes_text
from tiphys.api.kinds.podspec import default_claim_spec
from tiphys.api.quantity import canonical, parse
from tiphys.api.validation.claims import claim_spec
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.goform import difference
from tiphys.api.validation.names import qualified_name
from tiphys.api.validation.quantities import amount, is_native, non_negative_quantity

Struct = Mapping[str, Any]

_SOURCES = {("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")}
_FROZEN = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
_RESIZES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)


def fraction_warnings(path: str, spec: Mapping[str, Any]) -> list[str]:
    """Warnings of a claim's spec at `path`: storage comes in whole bytes."""
    found, resources = [], spec.get("resources") or {}
    for kind in ("requests", "limits"):
        value = (resources.get(kind) or {}).get("storage")
        if value is not None and parse(str(value)).milli % 1000:
            where, shown = f"{path}.resources.{kind}[storage]", canonical(str(value))
            found.append(f'{where}: fractional byte value "{shown}" is invalid, must be an integer')
    return found


class PersistentVolumeClaim(StatusKind):
    plural, kind = "persistentvolumeclaims", "PersistentVolumeClaim"
    counts_generation = False
    revalidates_metadata = True
    empty_status: Mapping[str, Any] = {"phase": "Pending"}
    columns = (
        printing.NAME,
        Column("Status", description="@PersistentVolumeClaimStatus.phase"),
        Column("Volume", description="@PersistentVolumeClaimSpec.volumeName"),
        Column("Capacity", description="@PersistentVolumeClaimStatus.capacity"),
        Column("Access Modes", description="@PersistentVolumeClaimStatus.accessModes"),
        Column("StorageClass", description="StorageClass of the pvc"),
        Column("VolumeAttributesClass", description="VolumeAttributesClass of the pvc"),
        printing.AGE,
        Column("VolumeMode", description="@PersistentVolumeClaimSpec.volumeMode", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        fill_empty(child(obj, "status"), phase="Pending")
        default_claim_spec(child(obj, "spec"))
        round_up(obj["status"], "capacity", "allocatedResources")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        super().prepare_create(obj, context)
        _data_sources(child(obj, "spec"), {})

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        super().prepare_update(new, old, context)
        _data_sources(child(new, "spec"), old.get("spec") or {})

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        claim_spec(errors, "spec", obj.get("spec") or {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        spec, was, status = new.get("spec") or {}, old.get("spec") or {}, old.get("status") or {}
        referred = (was.get("dataSource") or {}).get("apiGroup") or (was.get("dataSourceRef") or {}).get("apiGroup")
        claim_spec(errors, "spec", spec, any_group=referred is not None)
        masked = _masked(errors, new, old)
        if masked != {name: value for name, value in was.items() if value is not None}:
            errors.forbidden("spec", f"{_FROZEN}\n{difference('PersistentVolumeClaimSpec', was, masked)}")
        _size(errors, spec, was, status)
        errors.immutable("volumeMode", spec.get("volumeMode"), was.get("volumeMode"))
        name, path = spec.get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
        if name != was.get("volumeAttributesClassName") and status.get("currentVolumeAttributesClassName") is not None:
            what = "nil" if name is None else "empty string"
            if not name:
                errors.forbidden(
                    path, f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
                )

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, status = Errors(), new.get("status") or {}
        for name, value in sorted((status.get("capacity") or {}).items()):
            non_negative_quantity(errors, f"status.capacity[{name}]", value)
        path = "status.allocatedResourceStatuses"
        for name, state in sorted((status.get("allocatedResourceStatuses") or {}).items()):
            _resource(errors, path, name)
            if state not in _RESIZES:
                errors.unsupported(path, name, _RESIZES)
        for name, value in sorted((status.get("allocatedResources") or {}).items()):
            if _resource(errors, "status.allocatedResources", name):
                non_negative_quantity(errors, f"status.allocatedResources[{name}]", value)
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        found = []
        if BETA_CLASS in ((obj.get("metadata") or {}).get("annotations") or {}):
            text = 'deprecated since v1.8; use "storageClassName" attribute instead'
            found.append(f"metadata.annotations[{BETA_CLASS}]: {text}")
        return found + fraction_warnings("spec", obj.get("spec") or {})

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"name": printing.name(obj)}

    def cells(self, obj: Object, now: float) -> list[Any]:
        meta, spec, status = (obj.get(part) or {} for part in ("metadata", "spec", "status"))
        bound = bool(spec.get("volumeName"))
        return [
            printing.name(obj),
            "Terminating" if meta.get("deletionTimestamp") else status.get("phase", ""),
            spec.get("volumeName", ""),
            str((status.get("capacity") or {}).get("storage", "0")) if bound else "",
            modes_text(status.get("accessModes")) if bound else "",
            class_of(obj),
            attributes_class_of(obj),
            printing.age(obj, now),
            spec.get("volumeMode") or printing.UNSET,
        ]


def _data_sources(spec: MutableObject, old: Struct) -> None:
    """dataSource and dataSourceRef say the same; one that older servers ignored is dropped."""
    used = old.get("dataSourceRef") or {}
    if (spec.get("dataSourceRef") or {}).get("namespace") and not used.get("namespace"):
        # Sources in other namespaces are off unless the old claim has one.
        spec.pop("dataSourceRef")
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        known = (source.get("apiGroup") or "", source.get("kind")) in _SOURCES
        if known or used or old.get("dataSource"):
            spec["dataSourceRef"] = _reference(source)
        else:
            spec.pop("dataSource")
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = _reference(reference)


def _reference(source: Struct) -> dict[str, Any]:
    return {name: source[name] for name in ("apiGroup", "kind", "name") if source.get(name) is not None}


def _masked(errors: Errors, new: Object, old: Object) -> dict[str, Any]:
    """The new spec with the old values of what may change."""
    spec, was = dict(new.get("spec") or {}), old.get("spec") or {}
    annotations, earlier = ((obj.get("metadata") or {}).get("annotations") or {} for obj in (new, old))
    beta, name = earlier.get(BETA_CLASS), spec.get("storageClassName")
    named = was.get("storageClassName") is None and name is not None and beta in (None, name)
    if named:
        spec.pop("storageClassName")
    if not (named and beta is not None and annotations.get(BETA_CLASS, beta) == beta):
        path = f"metadata.annotations[{BETA_CLASS}]"
        errors.immutable(path, annotations.get(BETA_CLASS, ""), beta or "")
    if not was.get("volumeName"):
        spec.pop("volumeName", None)
    if (new.get("status") or {}).get("phase") == "Bound":
        for field in ("volumeAttributesClassName",):
            spec[field] = was.get(field)
        resources, before = dict(spec.get("resources") or {}), was.get("resources") or {}
        if resources.get("requests") is not None:
            resources["requests"] = {**resources["requests"], "storage": (before.get("requests") or {}).get("storage")}
            spec["resources"] = resources
    return {field: value for field, value in spec.items() if value is not None}


def _size(errors: Errors, spec: Struct, was: Struct, status: Struct) -> None:
    new, old = (amount(((s.get("resources") or {}).get("requests") or {}).get("storage")) for s in (spec, was))
    given = amount((status.get("capacity") or {}).get("storage"))
    if new < old and new <= given:
        errors.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


def _resource(errors: Errors, path: str, name: str) -> bool:
    found = qualified_name(name)
    errors.each(path, name, found)
    if not found and is_native(name) and name != "storage":
        errors.unsupported(path, name, ("storage",))
        return False
    return not found
