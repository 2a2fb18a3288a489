"""Namespace (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, fill_empty, keep
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.metadata import qualified_finalizer
from tiphys.api.validation.names import qualified_name

_NAME_LABEL = "kubernetes.io/metadata.name"


class Namespace(StatusKind):
    """Its spec.finalizers are written at /finalize only; subresource 'finalize' of an update says so."""

    plural, kind = "namespaces", "Namespace"
    revalidates_metadata = True
    name_check = "dns_label"
    counts_generation = False
    empty_status = {"phase": "Active"}  # noqa: RUF012 - read only
    columns = (printing.NAME, Column("Status", description="The status of the namespace"), printing.AGE)

    def default(self, obj: MutableObject, version: str) -> None:
        meta = child(obj, "metadata")
        if name := meta.get("name"):
            child(meta, "labels")[_NAME_LABEL] = name
        fill_empty(child(obj, "status"), phase="Active")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        super().prepare_create(obj, context)
        self.default(obj, "v1")
        spec = child(obj, "spec")
        finalizers = spec.get("finalizers") or []
        spec["finalizers"] = finalizers if "kubernetes" in finalizers else [*finalizers, "kubernetes"]

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        keep(new, old, "status")
        if context.subresource != "finalize":
            was = (old.get("spec") or {}).get("finalizers")
            spec = child(new, "spec")
            spec.pop("finalizers", None)
            if was:
                spec["finalizers"] = was

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        for finalizer in (obj.get("spec") or {}).get("finalizers") or ():
            errors.each("spec.finalizers", finalizer, qualified_name(finalizer))
            qualified_finalizer(errors, "spec.finalizers", finalizer)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        if context.subresource == "finalize":
            for i, finalizer in enumerate((new.get("spec") or {}).get("finalizers") or ()):
                errors.each(f"spec.finalizers[{i}]", finalizer, qualified_name(finalizer))
                qualified_finalizer(errors, f"spec.finalizers[{i}]", finalizer)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        phase = (new.get("status") or {}).get("phase", "")
        if not (new.get("metadata") or {}).get("deletionTimestamp"):
            if phase != "Active":
                errors.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")
        elif phase != "Terminating":
            errors.invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
        return errors

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"status.phase": (obj.get("status") or {}).get("phase", ""), "name": printing.name(obj)}

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), (obj.get("status") or {}).get("phase", ""), printing.age(obj, now)]
