"""Job (API reference, batch/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object, ScalePaths
from tiphys.api.kinds.batch.job_rules import job_spec, job_warnings
from tiphys.api.kinds.batch.job_status import job_status
from tiphys.api.kinds.batch.job_update import job_update
from tiphys.api.kinds.common import StatusKind, child, fill_empty, has_changed, hostname_warning, setdefaults
from tiphys.api.kinds.podspec import default_template
from tiphys.api.kinds.workload import (
    MISMATCH,
    shown_labels,
    shown_selector,
    spec_of,
    template_labels,
    template_of,
    usable,
)
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector, matches
from tiphys.api.validation.names import dns_label, label_value
from tiphys.base.clock import parse_rfc3339

_NAMES = ("job-name", "batch.kubernetes.io/job-name")
_UIDS = ("controller-uid", "batch.kubernetes.io/controller-uid")
_FINAL = (
    ("Complete", "Complete"),
    ("Failed", "Failed"),
    ("", "Terminating"),
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)
_MAX_INT32 = 2**31 - 1


def default_job_spec(spec: MutableObject) -> None:
    """What a Job and the template in a CronJob have by default alike."""
    default_template(spec)
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            fill_empty(pattern, status="True")


class Job(StatusKind):
    group, plural, kind = "batch", "jobs", "Job"
    revalidates_metadata = True
    scale: ScalePaths | None = None
    columns = (
        printing.NAME,
        Column("Status", description="Status of the job."),
        Column("Completions", description="@JobStatus.succeeded"),
        Column("Duration", description="Time required to complete the job."),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        Column("Selector", description="@JobSpec.selector", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        default_job_spec(spec)
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
        limit = _MAX_INT32 if spec.get("backoffLimitPerIndex") is not None else 6
        replacement = "Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed"
        setdefaults(
            spec,
            parallelism=1,
            backoffLimit=limit,
            completionMode="NonIndexed",
            suspend=False,
            podReplacementPolicy=replacement,
            manualSelector=False,
        )
        _default_labels(obj)

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        _default_labels(new)

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        super().prepare_create(obj, context)
        if not obj["spec"].get("manualSelector"):
            _generate_selector(obj)
            # Upstream does it when the stored object is read, so bad names are complained of in the template alone.
            if not any(label_value(value) for value in template_labels(template_of(obj)).values()):
                _default_labels(obj)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        self._generated(errors, obj)
        spec = spec_of(obj)
        _spec_with_selector(errors, spec)
        completions = spec.get("completions") or 0
        if spec.get("completionMode") == "Indexed" and completions > 0:
            name = printing.name(obj)
            host = f"{name}-{completions - 1}"
            if dns_label(host):
                errors.invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {host}")

    def _generated(self, errors: Errors, obj: Object) -> None:
        spec = spec_of(obj)
        selector = spec.get("selector")
        if spec.get("manualSelector") or selector is None:
            return
        meta = obj.get("metadata") or {}
        labels = template_labels(template_of(obj))
        uid, name = meta.get("uid", ""), meta.get("name", "")
        errors.non_empty("metadata.uid", uid)
        wanted = {_UIDS[0]: uid, _NAMES[0]: name, _UIDS[1]: uid, _NAMES[1]: name}
        for key, value in wanted.items():
            path = f"spec.template.metadata.labels[{key}]"
            if key not in labels:
                errors.required(path, f"must be '{value}'")
            elif labels[key] != value:
                errors.invalid(path, dict(sorted(labels.items())), f"must be '{value}'")
        if usable(selector) and not matches(selector, wanted):
            errors.invalid("spec.selector", shown_selector(selector), "`selector` not auto-generated")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        job_update(errors, new, old)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        job_status(errors, new, old)
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        if old is not None and not has_changed(obj, old, "spec"):
            return []
        found = hostname_warning(obj) if old is None else []
        return [*found, *job_warnings(spec_of(obj), "spec")]

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"status.successful": str((obj.get("status") or {}).get("succeeded") or 0)}

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = spec_of(obj), obj.get("status") or {}
        succeeded, parallelism = status.get("succeeded") or 0, spec.get("parallelism") or 0
        if (wanted := spec.get("completions")) is not None:
            completions = f"{succeeded}/{wanted}"
        else:
            completions = f"{succeeded}/1" + (f" of {parallelism}" if parallelism > 1 else "")
        return [
            printing.name(obj),
            _state(obj),
            completions,
            _duration(status, now),
            printing.age(obj, now),
            *printing.container_cells(template_of(obj).get("spec")),
            printing.format_selector(spec.get("selector")),
        ]


def _duration(status: Mapping[str, Any], now: float) -> str:
    if not status.get("startTime"):
        return ""
    end = parse_rfc3339(status["completionTime"]) if status.get("completionTime") else now
    return printing.human_duration(end - parse_rfc3339(status["startTime"]))


def _state(obj: Object) -> str:
    conditions: dict[str, str] = {}
    for condition in (obj.get("status") or {}).get("conditions") or ():
        conditions.setdefault(condition.get("type", ""), condition.get("status", ""))
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        conditions[""] = "True"
    return next((text for kind, text in _FINAL if conditions.get(kind) == "True"), "Running")


def _default_labels(obj: MutableObject) -> None:
    # They are one map, as in upstream: what is added to the template's labels is added to the job's.
    if labels := template_labels(template_of(obj)):
        fill_empty(child(obj, "metadata"), labels=labels)


def _generate_selector(obj: MutableObject) -> None:
    """Pods of a job are found by its uid, which nobody else can have in a label by chance."""
    meta, spec = child(obj, "metadata"), obj["spec"]
    labels = child(child(child(spec, "template"), "metadata"), "labels")
    for keys, value in ((_NAMES, meta.get("name", "")), (_UIDS, meta.get("uid", ""))):
        for key in keys:
            labels.setdefault(key, value)
    child(child(spec, "selector"), "matchLabels").setdefault(_UIDS[1], meta.get("uid", ""))


def _spec_with_selector(errors: Errors, spec: Mapping[str, Any]) -> None:
    job_spec(errors, "spec", spec)
    selector = spec.get("selector")
    if selector is None:
        errors.required("spec.selector")
    label_selector(errors, "spec.selector", selector)
    labels = template_labels(spec.get("template") or {})
    if usable(selector) and (selector is None or not matches(selector, labels)):
        errors.invalid("spec.template.metadata.labels", shown_labels(spec.get("template") or {}), MISMATCH)
