"""PodTemplate (API reference, core/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.kinds.core.pod_warnings import pod_warnings
from tiphys.api.kinds.podspec import default_template
from tiphys.api.kinds.workload import template_labels
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.pods import pod_template


class PodTemplate(PlainKind):
    plural, kind = "podtemplates", "PodTemplate"
    counts_generation = True
    columns = (
        printing.NAME,
        Column("Containers", description="Names of each container in the template."),
        Column("Images", description="Images referenced by each container in the template."),
        Column("Pod Labels", description="The labels for the pod template."),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        default_template(obj)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        pod_template(errors, "template", obj.get("template") or {})

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        template = obj.get("template") or {}
        return pod_warnings(template.get("spec") or {}, template.get("metadata") or {}, "template")

    def cells(self, obj: Object, now: float) -> list[Any]:
        template = obj.get("template") or {}
        labels = printing.labels_text(template_labels(template))
        return [printing.name(obj), *printing.container_cells(template.get("spec")), labels]
