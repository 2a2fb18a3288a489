"""Deployment (API reference, apps/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import child, count_labels, fill_empty, keep, setdefaults
from tiphys.api.kinds.intorpercent import at_most_all, number
from tiphys.api.kinds.intorpercent import non_negative as non_negative_share
from tiphys.api.kinds.podspec import default_template
from tiphys.api.kinds.workload import (
    SCALE,
    Struct,
    Workload,
    at_most,
    non_negative,
    not_decremented,
    replica_set_template,
    same_selector,
    selector,
    shown_selector,
    spec_of,
    usable,
)
from tiphys.api.validation.errors import Errors

_COUNTERS = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


class Deployment(Workload):
    group, plural, kind = "apps", "deployments", "Deployment"
    scale = SCALE
    columns = (
        printing.NAME,
        Column("Ready", description="Number of the pod with ready state"),
        Column("Up-to-date", description="@DeploymentStatus.updatedReplicas"),
        Column("Available", description="@DeploymentStatus.availableReplicas"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        Column("Selector", description="@DeploymentSpec.selector", priority=1),
    )

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        """Labels do not change by a word on the status."""
        keep(new["metadata"], old["metadata"], "labels")

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        default_template(spec)
        setdefaults(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
        strategy = child(spec, "strategy")
        fill_empty(strategy, type="RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            setdefaults(child(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        super().prepare_update(new, old, context)
        count_labels(new, old, "annotations")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = spec_of(obj)
        wanted = spec.get("selector")
        non_negative(errors, "spec", spec, "replicas")
        selector(errors, "spec.selector", wanted, "deployment")
        if usable(wanted):
            replica_set_template(errors, "spec.template", wanted, spec.get("template") or {})
        elif wanted is not None:
            errors.invalid("spec.selector", shown_selector(wanted), "invalid label selector")
        _strategy(errors, "spec.strategy", spec.get("strategy") or {})
        non_negative(errors, "spec", spec, "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
            errors.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        same_selector(errors, new, old)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        status = new.get("status") or {}
        non_negative(errors, "status", status, *_COUNTERS, "unavailableReplicas", "collisionCount")
        limited = ("updatedReplicas", "readyReplicas", "availableReplicas")
        at_most(errors, status, limited, "replicas", "cannot be greater than status.replicas")
        at_most(errors, status, limited[2:], "readyReplicas", "cannot be greater than readyReplicas")
        not_decremented(errors, status, old.get("status") or {})
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = spec_of(obj), obj.get("status") or {}
        return [
            printing.name(obj),
            f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
            status.get("updatedReplicas") or 0,
            status.get("availableReplicas") or 0,
            printing.age(obj, now),
            *printing.container_cells((spec.get("template") or {}).get("spec")),
            printing.selector_text(spec.get("selector")),
        ]


def _strategy(errors: Errors, path: str, strategy: Struct) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            errors.forbidden(f"{path}.rollingUpdate", detail)
    elif kind == "RollingUpdate":
        _rolling(errors, f"{path}.rollingUpdate", rolling or {})
    else:
        shown = {"Type": kind, "RollingUpdate": rolling and _shown(rolling)}
        errors.unsupported(path, shown, ("Recreate", "RollingUpdate"))


def _shown(rolling: Struct) -> dict[str, Any]:
    return {"MaxUnavailable": rolling.get("maxUnavailable", 0), "MaxSurge": rolling.get("maxSurge", 0)}


def _rolling(errors: Errors, path: str, rolling: Struct) -> None:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    non_negative_share(errors, f"{path}.maxUnavailable", unavailable)
    non_negative_share(errors, f"{path}.maxSurge", surge)
    if number(unavailable) == 0 and number(surge) == 0:
        errors.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    at_most_all(errors, f"{path}.maxUnavailable", unavailable)
