"""PodDisruptionBudget (API reference, policy/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, Object
from tiphys.api.kinds.common import StatusKind
from tiphys.api.kinds.intorpercent import at_most_all, non_negative
from tiphys.api.validation.conditions import conditions
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector

Struct = Mapping[str, Any]

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_BOUNDS = ("minAvailable", "maxUnavailable")


class PodDisruptionBudget(StatusKind):
    group, plural, kind = "policy", "poddisruptionbudgets", "PodDisruptionBudget"
    name_check = "path_segment"
    qualified_finalizers = False
    unconditional_update = False
    empty_status = dict.fromkeys(_COUNTS, 0)
    columns = (
        printing.NAME,
        Column("Min Available", description="The minimum number of pods that must be available."),
        Column("Max Unavailable", description="The maximum number of pods that may be unavailable."),
        Column(
            "Allowed Disruptions",
            "integer",
            description="Calculated number of pods that may be disrupted at this time.",
        ),
        printing.AGE,
    )

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _spec(errors, "spec", obj.get("spec") or {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        odd = Errors()
        label_selector(odd, "", (old.get("spec") or {}).get("selector"))
        _spec(errors, "spec", new.get("spec") or {}, any_value=bool(odd))

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, status = Errors(), new.get("status") or {}
        conditions(errors, "status.conditions", status.get("conditions"))
        for name in _COUNTS:
            errors.non_negative(f"status.{name}", status.get(name))
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        least, most = ("N/A" if spec.get(name) is None else str(spec[name]) for name in _BOUNDS)
        allowed = (obj.get("status") or {}).get("disruptionsAllowed") or 0
        return [printing.name(obj), least, most, allowed, printing.age(obj, now)]


def _spec(errors: Errors, path: str, spec: Struct, *, any_value: bool = False) -> None:
    if all(spec.get(name) is not None for name in _BOUNDS):
        names = ("minAvailable", "selector", "maxUnavailable", "unhealthyPodEvictionPolicy")
        shown = {name[0].upper() + name[1:]: spec.get(name) for name in names}
        errors.invalid(path, shown, "minAvailable and maxUnavailable cannot be both set")
    for name in _BOUNDS:
        non_negative(errors, f"{path}.{name}", spec.get(name))
        at_most_all(errors, f"{path}.{name}", spec.get(name))
    label_selector(errors, f"{path}.selector", spec.get("selector"), any_value=any_value)
    policy = spec.get("unhealthyPodEvictionPolicy")
    errors.one_of(f"{path}.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))
