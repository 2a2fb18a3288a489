"""What may change in a job: parallelism and limits; the template only while it is suspended (KEP-2926)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import Object
from tiphys.api.kinds.core.pod_update import same
from tiphys.api.kinds.workload import spec_of
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.goform import shown

Struct = Mapping[str, Any]

_FORMS = {"podFailurePolicy": "PodFailurePolicy", "successPolicy": "SuccessPolicy"}


def job_update(errors: Errors, new: Object, old: Object) -> None:
    spec, was = spec_of(new), spec_of(old)
    _completions(errors, spec, was)
    _immutable(errors, "selector", spec, was)
    _template(errors, spec, was, old.get("status") or {})
    for name in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        _immutable(errors, name, spec, was, _FORMS.get(name))


def _immutable(errors: Errors, name: str, spec: Struct, was: Struct, form: str | None = None) -> None:
    value = spec.get(name)
    if not same(value, was.get(name)):
        errors.invalid(f"spec.{name}", shown(form, value) if form and value is not None else value, IMMUTABLE)


def _completions(errors: Errors, spec: Struct, was: Struct) -> None:
    if spec.get("completionMode") != "Indexed":
        if spec.get("completions") != was.get("completions"):
            errors.invalid("spec.completions", spec.get("completions"), IMMUTABLE)
        return
    wanted = spec.get("completions")
    if wanted is not None and wanted != was.get("completions") and wanted != spec.get("parallelism"):
        errors.invalid("spec.completions", wanted, "can only be modified in tandem with spec.parallelism")


def _may_change(was: Struct, status: Struct) -> bool:
    """Suspended, and no pod of it has run or runs still."""
    suspended = any(c.get("type") == "Suspended" and c.get("status") == "True" for c in status.get("conditions") or ())
    return bool(was.get("suspend")) and (not status.get("startTime") or suspended) and not status.get("active")


def _template(errors: Errors, spec: Struct, was: Struct, status: Struct) -> None:
    template, before = spec.get("template") or {}, was.get("template") or {}
    if not _may_change(was, status):
        if not same(template, before):
            errors.invalid("spec.template", shown("PodTemplateSpec", template), IMMUTABLE)
        return
    pod, pod_before = template.get("spec") or {}, dict(before.get("spec") or {})
    for name in ("nodeSelector", "tolerations", "schedulingGates"):
        pod_before[name] = pod.get(name)
    affinity = {**(pod_before.get("affinity") or {}), "nodeAffinity": (pod.get("affinity") or {}).get("nodeAffinity")}
    pod_before["affinity"] = affinity if any(affinity.values()) else pod.get("affinity")
    for name in ("containers", "initContainers"):
        pod_before[name] = _with_resources(pod_before.get(name) or [], pod.get(name) or [])
    if not same(pod, pod_before):
        errors.invalid("spec.template.spec", shown("PodSpec", pod), IMMUTABLE)


def _with_resources(before: list[Struct], now: list[Struct]) -> list[Struct]:
    if len(before) != len(now):
        return before
    return [
        {**one, "resources": other.get("resources")} if one.get("name") == other.get("name") else one
        for one, other in zip(before, now, strict=True)
    ]
