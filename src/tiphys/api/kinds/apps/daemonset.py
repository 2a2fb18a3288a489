"""DaemonSet (API reference, apps/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import child, fill_empty, setdefaults
from tiphys.api.kinds.core.pod_update import same
from tiphys.api.kinds.intorpercent import at_most_all, number
from tiphys.api.kinds.intorpercent import non_negative as non_negative_share
from tiphys.api.kinds.podspec import default_template
from tiphys.api.kinds.workload import (
    MISMATCH,
    Struct,
    Workload,
    non_negative,
    not_decremented,
    runs_for_ever,
    same_selector,
    shown_labels,
    shown_selector,
    spec_of,
    template_labels,
    usable,
)
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import is_empty, label_selector, matches
from tiphys.api.validation.pods import pod_template

_GENERATION = "deprecated.daemonset.template.generation"
_COUNTERS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


class DaemonSet(Workload):
    group, plural, kind = "apps", "daemonsets", "DaemonSet"
    warns_of_name = False
    empty_status = dict.fromkeys(_COUNTERS[:4], 0)
    columns = (
        printing.NAME,
        Column("Desired", "integer", description="@DaemonSetStatus.desiredNumberScheduled"),
        Column("Current", "integer", description="@DaemonSetStatus.currentNumberScheduled"),
        Column("Ready", "integer", description="@DaemonSetStatus.numberReady"),
        Column("Up-to-date", "integer", description="@DaemonSetStatus.updatedNumberScheduled"),
        Column("Available", "integer", description="@DaemonSetStatus.numberAvailable"),
        Column("Node Selector", description="@PodSpec.nodeSelector"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        Column("Selector", description="@DaemonSetSpec.selector", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        # Upstream has a number of its own for it, so a DaemonSet of v1 always has the annotation.
        _set_generation(obj, _generation(obj))
        spec = child(obj, "spec")
        default_template(spec)
        setdefaults(spec, revisionHistoryLimit=10)
        strategy = child(spec, "updateStrategy")
        fill_empty(strategy, type="RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            setdefaults(child(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
        elif strategy.get("rollingUpdate") is not None:
            setdefaults(strategy["rollingUpdate"], maxUnavailable=0, maxSurge=0)

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        super().prepare_create(obj, context)
        _set_generation(obj, max(_generation(obj), 1))

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        _set_generation(new, _generation(old))

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        super().prepare_update(new, old, context)
        changed = not same(spec_of(new).get("template"), spec_of(old).get("template"))
        _set_generation(new, _generation(old) + changed)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = spec_of(obj)
        wanted, template = spec.get("selector"), spec.get("template") or {}
        label_selector(errors, "spec.selector", wanted)
        # A null selector selects nothing, an empty one everything.
        unmatched = wanted is None or not (is_empty(wanted) or matches(wanted, template_labels(template)))
        if usable(wanted) and unmatched:
            errors.invalid("spec.template.metadata.labels", shown_labels(template), MISMATCH)
        if wanted is not None and is_empty(wanted):
            errors.invalid("spec.selector", shown_selector(wanted), "empty selector is invalid for daemonset")
        pod_template(errors, "spec.template", template)
        runs_for_ever(errors, "spec.template", template, "DaemonSet")
        non_negative(errors, "spec", spec, "minReadySeconds")
        _strategy(errors, "spec.updateStrategy", spec.get("updateStrategy") or {})
        non_negative(errors, "spec", spec, "revisionHistoryLimit")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        same_selector(errors, new, old)
        self.check(errors, new, context)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        status = new.get("status") or {}
        non_negative(errors, "status", status, *_COUNTERS)
        not_decremented(errors, status, old.get("status") or {})
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = spec_of(obj), obj.get("status") or {}
        pod = (spec.get("template") or {}).get("spec") or {}
        names = (*_COUNTERS[2:3], *_COUNTERS[0:1], *_COUNTERS[3:4], *_COUNTERS[5:7])
        return [
            printing.name(obj),
            *(status.get(name) or 0 for name in names),
            printing.labels_text(pod.get("nodeSelector")),
            printing.age(obj, now),
            *printing.container_cells(pod),
            printing.format_selector(spec.get("selector")),
        ]


def _generation(obj: Object) -> int:
    text = ((obj.get("metadata") or {}).get("annotations") or {}).get(_GENERATION, "")
    return int(text) if text.isdigit() else 0


def _set_generation(obj: MutableObject, value: int) -> None:
    meta = child(obj, "metadata")
    meta["annotations"] = {**(meta.get("annotations") or {}), _GENERATION: str(value)}


def _strategy(errors: Errors, path: str, strategy: Struct) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind not in ("OnDelete", "RollingUpdate"):
        shown = {"Type": kind, "RollingUpdate": None}
        if rolling is not None:
            unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
            shown["RollingUpdate"] = {"MaxUnavailable": unavailable, "MaxSurge": surge}
        errors.unsupported(path, shown, ("RollingUpdate", "OnDelete"))
    elif kind == "RollingUpdate":
        if rolling is None:
            errors.required(f"{path}.rollingUpdate")
        else:
            _rolling(errors, f"{path}.rollingUpdate", rolling)


def _rolling(errors: Errors, path: str, rolling: Struct) -> None:
    values = {name: rolling.get(name) for name in ("maxUnavailable", "maxSurge")}
    for check in (non_negative_share, at_most_all):
        for name, value in values.items():
            check(errors, f"{path}.{name}", value)
    unavailable, surge = (number(value) != 0 for value in values.values())
    if unavailable and surge:
        errors.invalid(f"{path}.maxSurge", values["maxSurge"], "may not be set when maxUnavailable is non-zero")
    elif not unavailable and not surge:
        errors.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")
