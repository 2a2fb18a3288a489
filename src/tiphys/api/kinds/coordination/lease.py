"""Lease (API reference, coordination.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.validation.errors import Errors


class Lease(PlainKind):
    group, plural, kind = "coordination.k8s.io", "leases", "Lease"
    allow_create_on_update = True
    unconditional_update = False
    qualified_finalizers = False
    columns = (printing.NAME, Column("Holder", description="@LeaseSpec.holderIdentity"), printing.AGE)

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """Coordinated leader election is off: its fields are dropped, as upstream does."""
        spec = obj.get("spec") or {}
        for name in ("strategy", "preferredHolder"):
            spec.pop(name, None)

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        self.prepare_create(new, context)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = obj.get("spec") or {}
        if (seconds := spec.get("leaseDurationSeconds")) is not None and seconds <= 0:
            errors.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")
        errors.non_negative("spec.leaseTransitions", spec.get("leaseTransitions"))

    def cells(self, obj: Object, now: float) -> list[Any]:
        holder = (obj.get("spec") or {}).get("holderIdentity") or ""
        return [printing.name(obj), holder, printing.age(obj, now)]
