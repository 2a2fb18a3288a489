"""What a controller may report about a job: counters do not go back, endings stay (KEP-4368)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import Object
from tiphys.api.kinds.batch.indexes import interval_count, overlap
from tiphys.api.kinds.batch.job_rules import omitted
from tiphys.api.kinds.workload import non_negative, spec_of
from tiphys.api.validation.errors import IMMUTABLE, Errors

Struct = Mapping[str, Any]

_CONDITIONS = "status.conditions"
_COUNTERS = ("active", "succeeded", "failed", "ready", "terminating")


def has(status: Struct, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def job_status(errors: Errors, new: Object, old: Object) -> None:
    spec, status, was = spec_of(new), new.get("status") or {}, old.get("status") or {}
    non_negative(errors, "status", status, *_COUNTERS)
    _uncounted(errors, status)
    _endings(errors, spec, status, was)
    _finished(errors, spec, status, was)
    _indexes(errors, spec, status, was)
    _counters(errors, spec, status, was)
    for kind in ("Failed", "Complete", "FailureTarget"):
        if has(was, kind) and not has(status, kind):
            omitted(errors, _CONDITIONS, f"cannot disable the terminal {kind}=True condition")
    _times(errors, spec, status, was)
    if has(was, "SuccessCriteriaMet") and not has(status, "SuccessCriteriaMet"):
        omitted(errors, _CONDITIONS, "cannot disable the SuccessCriteriaMet=True condition")
    if has(was, "Complete") and not has(was, "SuccessCriteriaMet") and has(status, "SuccessCriteriaMet"):
        detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        omitted(errors, _CONDITIONS, detail)


def _uncounted(errors: Errors, status: Struct) -> None:
    seen: set[str] = set()
    for name in ("succeeded", "failed"):
        for i, uid in enumerate((status.get("uncountedTerminatedPods") or {}).get(name) or ()):
            path = f"status.uncountedTerminatedPods.{name}[{i}]"
            if not uid:
                errors.invalid(path, uid, "must not be empty")
            elif uid in seen:
                errors.duplicate(path, uid)
            seen.add(uid)


def _changed(status: Struct, was: Struct, *kinds: str) -> bool:
    return any(has(status, kind) != has(was, kind) for kind in kinds)


def _endings(errors: Errors, spec: Struct, status: Struct, was: Struct) -> None:
    complete, failed = has(status, "Complete"), has(status, "Failed")
    met, target = has(status, "SuccessCriteriaMet"), has(status, "FailureTarget")
    rules = (
        (
            complete and failed and _changed(status, was, "Complete", "Failed"),
            "Complete=True and Failed=true conditions",
        ),
        (
            complete and target and _changed(status, was, "Complete", "FailureTarget"),
            "Complete=True and FailureTarget=true conditions",
        ),
        (
            failed and not target and _changed(status, was, "Failed"),
            "Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete and not met and _changed(status, was, "Complete", "SuccessCriteriaMet"),
            "Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (met and failed, "SuccessCriteriaMet=True and Failed=true conditions"),
        (met and target, "SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (
            spec.get("successPolicy") is not None and complete and not met,
            "Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    )
    for broken, what in rules:
        if broken:
            omitted(errors, _CONDITIONS, f"cannot set {what}")


def _finished(errors: Errors, spec: Struct, status: Struct, was: Struct) -> None:
    finished = has(status, "Complete") or has(status, "Failed")
    changed = finished != (has(was, "Complete") or has(was, "Failed"))
    if not finished:
        return

    def differs(name: str) -> bool:
        return changed or status.get(name) != was.get(name)

    if (active := status.get("active") or 0) > 0 and differs("active"):
        errors.invalid("status.active", active, "active>0 is invalid for finished job")
    empty = spec.get("suspend") is True and spec.get("completions") == 0
    if not status.get("startTime") and differs("startTime") and not empty:
        errors.required("status.startTime", "startTime is required for finished job")
    pods = status.get("uncountedTerminatedPods") or {}
    if (pods.get("failed") or pods.get("succeeded")) and differs("uncountedTerminatedPods"):
        shown = {"Succeeded": pods.get("succeeded"), "Failed": pods.get("failed")}
        errors.invalid("status.uncountedTerminatedPods", shown, "must be empty for finished job")
    if (count := status.get("terminating") or 0) > 0 and differs("terminating"):
        errors.invalid("status.terminating", count, "terminating>0 is invalid for finished job")


def _indexes(errors: Errors, spec: Struct, status: Struct, was: Struct) -> None:
    done, failed = status.get("completedIndexes") or "", status.get("failedIndexes")
    completions = spec.get("completions")
    done_changed, failed_changed = done != (was.get("completedIndexes") or ""), failed != was.get("failedIndexes")
    per_index = spec.get("backoffLimitPerIndex") is not None
    if completions is not None:
        listed = [("completedIndexes", done)] if done_changed else []
        listed += [("failedIndexes", failed)] if failed_changed and per_index and failed is not None else []
        for name, text in listed:
            try:
                interval_count(text, completions)
            except ValueError as error:
                errors.invalid(f"status.{name}", text, f"error parsing {name}: {error}")
    if done and done_changed and spec.get("completionMode") != "Indexed":
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.invalid("status.completedIndexes", done, detail)
    if failed is None:
        return
    if failed_changed and not per_index:
        detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.invalid("status.failedIndexes", failed, detail)
    if completions is None or not (done_changed or failed_changed):
        return
    if (index := overlap(done, failed, completions)) is not None:
        detail = f"failedIndexes and completedIndexes overlap at index: {index}"
        errors.invalid("status.failedIndexes", failed, detail)


def _counters(errors: Errors, spec: Struct, status: Struct, was: Struct) -> None:
    ready, active = status.get("ready"), status.get("active") or 0
    if ready is not None and ready > active and (ready != was.get("ready") or active != (was.get("active") or 0)):
        errors.invalid("status.ready", ready, "cannot set more ready pods than active")
    if (count := status.get("failed") or 0) < (was.get("failed") or 0):
        errors.invalid("status.failed", count, "cannot decrease the failed counter")
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not elastic and (count := status.get("succeeded") or 0) < (was.get("succeeded") or 0):
        errors.invalid("status.succeeded", count, "cannot decrease the succeeded counter")


def _times(errors: Errors, spec: Struct, status: Struct, was: Struct) -> None:
    start, end, path = status.get("startTime"), status.get("completionTime"), "status.completionTime"
    complete = has(status, "Complete")
    end_changed = end != was.get("completionTime") or complete != has(was, "Complete")
    if end and not complete and end_changed:
        errors.invalid(path, end, "cannot set completionTime when there is no Complete=True condition")
    if complete and not end and end_changed:
        errors.required(path, "completionTime is required for Complete jobs")
    if start and end and end < start:
        errors.invalid(path, end, "must be equal to or after `startTime`")
    if end and was.get("completionTime") and end != was["completionTime"]:
        errors.invalid(path, end, IMMUTABLE)
    resuming = has(was, "Suspended") and not has(status, "Suspended")
    if was.get("startTime") and start != was["startTime"] and not spec.get("suspend") and not resuming:
        errors.invalid("status.startTime", start, "field is immutable for unsuspended job once set")
