"""PriorityClass (API reference, scheduling.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, setdefaults
from tiphys.api.validation.errors import Errors

HIGHEST = 1_000_000_000
"""The highest priority that users may give."""
_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class PriorityClass(PlainKind):
    group, plural, kind = "scheduling.k8s.io", "priorityclasses", "PriorityClass"
    columns = (
        printing.NAME,
        Column("Value", "integer", description="@PriorityClass.value"),
        Column("Global-Default", "boolean", description="@PriorityClass.globalDefault"),
        printing.AGE,
        Column("PreemptionPolicy", description="@PriorityClass.preemptionPolicy"),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        setdefaults(obj, preemptionPolicy="PreemptLowerPriority")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """The generation is set and never counted."""
        obj["metadata"]["generation"] = 1

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        name, value = printing.name(obj), obj.get("value") or 0
        if name.startswith("system-"):
            if problem := _system_problem(name, value, bool(obj.get("globalDefault"))):
                detail = (
                    f"priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
                )
                errors.forbidden("metadata.name", detail)
        elif value > HIGHEST:
            errors.forbidden("value", f"maximum allowed value of a user defined priority is {HIGHEST}")
        if (policy := obj.get("preemptionPolicy")) is not None:
            errors.enum("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        if (new.get("value") or 0) != (old.get("value") or 0):
            errors.forbidden("value", "may not be changed in an update.")
        errors.immutable("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))

    def cells(self, obj: Object, now: float) -> list[Any]:
        is_default, policy = bool(obj.get("globalDefault")), obj.get("preemptionPolicy") or ""
        return [printing.name(obj), obj.get("value") or 0, is_default, printing.age(obj, now), policy]


def _system_problem(name: str, value: int, is_default: bool) -> str:
    if name not in _SYSTEM:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""
