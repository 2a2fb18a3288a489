"""Scale (API reference, autoscaling/v1): how many replicas an object has. It is no object of its own."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Object
from tiphys.api.kinds.common import PlainKind

TYPE = "io.k8s.api.autoscaling.v1.Scale"


class Scale(PlainKind):
    group, kind = "autoscaling", "Scale"
    columns = (
        Column("Name", description="@ObjectMeta.name"),
        Column("Desired", "integer", description="@ScaleSpec.replicas"),
        Column("Available", "integer", description="@ScaleStatus.replicas"),
        printing.AGE,
    )

    def cells(self, obj: Object, now: float) -> list[Any]:
        replicas = [(obj.get(part) or {}).get("replicas") or 0 for part in ("spec", "status")]
        return [printing.name(obj), *replicas, printing.age(obj, now)]
