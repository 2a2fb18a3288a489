"""ControllerRevision (API reference, apps/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.validation.errors import Errors


class ControllerRevision(PlainKind):
    group, plural, kind = "apps", "controllerrevisions", "ControllerRevision"
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Controller", description="Controller of the object"),
        Column("Revision", description="@ControllerRevision.revision"),
        printing.AGE,
    )

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        errors.non_negative("revision", obj.get("revision") or 0)
        data = obj.get("data")
        if data is None:
            errors.required("data", "data is mandatory")
        elif not isinstance(data, dict):
            errors.required("data", "data must be a valid JSON object")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        errors.non_negative("revision", new.get("revision") or 0)
        errors.immutable("data", new.get("data"), old.get("data"))

    def cells(self, obj: Object, now: float) -> list[Any]:
        owner = printing.NONE
        for reference in (obj.get("metadata") or {}).get("ownerReferences") or ():
            if reference.get("controller"):
                group, slash, _ = reference.get("apiVersion", "").rpartition("/")
                kind = reference.get("kind", "").lower()
                owner = f"{kind}.{group}/{reference.get('name')}" if slash else f"{kind}/{reference.get('name')}"
        return [printing.name(obj), owner, obj.get("revision") or 0, printing.age(obj, now)]
