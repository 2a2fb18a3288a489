"""ReplicaSet (API reference, apps/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import child, setdefaults
from tiphys.api.kinds.podspec import default_template
from tiphys.api.kinds.workload import (
    SCALE,
    Workload,
    at_most,
    non_negative,
    replica_set_template,
    replicas_columns,
    same_selector,
    selector,
    shown_selector,
    spec_of,
    usable,
)
from tiphys.api.validation.errors import Errors

_COUNTERS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


def replicas_status(errors: Errors, status: Mapping[str, Any]) -> None:
    """Counters of replica sets and replication controllers."""
    non_negative(errors, "status", status, *_COUNTERS)
    at_most(errors, status, _COUNTERS[1:4], "replicas", "cannot be greater than status.replicas")
    at_most(errors, status, _COUNTERS[3:4], "readyReplicas", "cannot be greater than readyReplicas")


class ReplicaSet(Workload):
    group, plural, kind = "apps", "replicasets", "ReplicaSet"
    scale = SCALE
    empty_status = {"replicas": 0}  # noqa: RUF012 - read only, as all class data of kinds
    columns = replicas_columns("ReplicaSetSpec", "ReplicaSetStatus")

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, replicas=1)
        default_template(spec)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = spec_of(obj)
        wanted = spec.get("selector")
        non_negative(errors, "spec", spec, "replicas", "minReadySeconds")
        selector(errors, "spec.selector", wanted, "deployment")
        if usable(wanted):
            replica_set_template(errors, "spec.template", wanted, spec.get("template") or {})
        elif wanted is not None:
            errors.invalid("spec.selector", shown_selector(wanted), "invalid label selector")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        same_selector(errors, new, old)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        replicas_status(errors, new.get("status") or {})
        return errors

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = spec_of(obj), obj.get("status") or {}
        return [
            printing.name(obj),
            spec.get("replicas") or 0,
            status.get("replicas") or 0,
            status.get("readyReplicas") or 0,
            printing.age(obj, now),
            *printing.container_cells((spec.get("template") or {}).get("spec")),
            printing.format_selector(spec.get("selector")),
        ]
