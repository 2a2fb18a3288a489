"""ReplicationController (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.apps.replicaset import replicas_status
from tiphys.api.kinds.base import Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import child, setdefaults
from tiphys.api.kinds.podspec import default_template
from tiphys.api.kinds.workload import (
    MISMATCH,
    SCALE,
    Workload,
    non_negative,
    replicas_columns,
    runs_for_ever,
    shown_labels,
    spec_of,
    template_labels,
)
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.pods import pod_template


class ReplicationController(Workload):
    """Its selector is a plain set of labels, by default the template's."""

    plural, kind = "replicationcontrollers", "ReplicationController"
    name_check = "declared_dns_subdomain"
    scale = SCALE
    empty_status = {"replicas": 0}  # noqa: RUF012 - read only
    columns = replicas_columns("ReplicationControllerSpec", "ReplicationControllerStatus")

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, replicas=1)
        if spec.get("template") is None:
            return
        labels = template_labels(default_template(spec))
        if labels:
            meta = child(obj, "metadata")
            spec["selector"] = spec.get("selector") or dict(labels)
            meta["labels"] = meta.get("labels") or dict(labels)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = spec_of(obj)
        selector, template = spec.get("selector") or {}, spec.get("template")
        non_negative(errors, "spec", spec, "minReadySeconds")
        errors.non_empty("spec.selector", selector)
        non_negative(errors, "spec", spec, "replicas")
        if template is None:
            errors.required("spec.template")
            return
        labels = template_labels(template)
        if any(labels.get(key) != value for key, value in selector.items()):
            errors.invalid("spec.template.metadata.labels", shown_labels(template), MISMATCH)
        pod_template(errors, "spec.template", template)
        runs_for_ever(errors, "spec.template", template, "ReplicationController")

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
            printing.labels_text(spec.get("selector")),
        ]
