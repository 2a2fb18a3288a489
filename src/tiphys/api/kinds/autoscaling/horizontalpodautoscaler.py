"""HorizontalPodAutoscaler (API reference, autoscaling/v2; v1 is converted)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.autoscaling.hpa_conversion import DEFAULT_SHARE, cpu_metric, to_v1, to_v2
from tiphys.api.kinds.autoscaling.hpa_rules import SOURCES, spec
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, setdefaults
from tiphys.api.validation.errors import Errors

Struct = Mapping[str, Any]

_PERIOD = 15
_FAST = {"type": "Percent", "value": 100, "periodSeconds": _PERIOD}
_SCALE_UP: Struct = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": _PERIOD}, _FAST],
}
_SCALE_DOWN: Struct = {"selectPolicy": "Max", "policies": [_FAST]}
_MAX_SHOWN = 2

_DOCUMENTED = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
"""Tables have the texts of v2, whichever version is asked for."""


class HorizontalPodAutoscaler(StatusKind):
    group, plural, kind = "autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
    stored_version = "v2"
    counts_generation = False
    empty_status: Mapping[str, Any] = {"desiredReplicas": 0, "currentMetrics": None}
    columns = (
        printing.NAME,
        Column("Reference", description=f"@{_DOCUMENTED}Spec.scaleTargetRef"),
        Column("Targets", description=f"@{_DOCUMENTED}Spec.metrics"),
        Column("MinPods", description=f"@{_DOCUMENTED}Spec.minReplicas"),
        Column("MaxPods", description=f"@{_DOCUMENTED}Spec.maxReplicas"),
        Column("Replicas", description=f"@{_DOCUMENTED}Status.currentReplicas"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        wanted = child(obj, "spec")
        setdefaults(wanted, minReplicas=1)
        if version == "v1":
            return
        if not wanted.get("metrics"):
            wanted["metrics"] = [cpu_metric(DEFAULT_SHARE)]
        if (behavior := wanted.get("behavior")) is not None:
            for name, rules in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
                given = {key: value for key, value in (behavior.get(name) or {}).items() if value is not None}
                behavior[name] = deepcopy({**rules, **given})

    def convert(self, obj: MutableObject, source: str, target: str) -> MutableObject:
        if source == target:
            return obj
        return to_v1(obj) if target == "v1" else to_v2(obj)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec(errors, "spec", obj.get("spec") or {}, None)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        spec(errors, "spec", new.get("spec") or {}, old.get("spec") or {})

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        for name in ("currentReplicas", "desiredReplicas"):
            errors.non_negative(f"status.{name}", (new.get("status") or {}).get(name))
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        wanted, status = obj.get("spec") or {}, obj.get("status") or {}
        target, least = wanted.get("scaleTargetRef") or {}, wanted.get("minReplicas")
        return [
            printing.name(obj),
            f"{target.get('kind', '')}/{target.get('name', '')}",
            _targets(wanted, status),
            printing.UNSET if least is None else str(least),
            wanted.get("maxReplicas") or 0,
            status.get("currentReplicas") or 0,
            printing.age(obj, now),
        ]


def _targets(wanted: Struct, status: Struct) -> str:
    metrics, current = wanted.get("metrics") or (), status.get("currentMetrics") or ()
    if not metrics:
        return printing.NONE
    texts = []
    for i, metric in enumerate(metrics):
        now = current[i] if i < len(current) else {}
        texts.append("".join(_target(metric, now)))
    shown = ", ".join(texts[:_MAX_SHOWN])
    return f"{shown} + {len(texts) - _MAX_SHOWN} more..." if len(texts) > _MAX_SHOWN else shown


def _target(metric: Struct, now: Struct) -> Iterator[str]:
    """One metric: what it is now, a slash, what it should be."""
    name = SOURCES.get(metric.get("type", ""))
    if name is None:
        yield "<unknown type>"
        return
    source, has = metric.get(name) or {}, now.get(name)
    target, current = source.get("target") or {}, (has or {}).get("current") or {}
    average = target.get("averageValue")
    if name in ("resource", "containerResource"):
        yield f"{source.get('name', '')}: "
        if average is None:
            share, wanted = current.get("averageUtilization"), target.get("averageUtilization")
            yield printing.UNKNOWN if share is None else f"{share}%"
            yield "/<auto>" if wanted is None else f"/{wanted}%"
            return
    field = "value" if average is None and name != "pods" else "averageValue"
    strict = field == "averageValue" and name in ("object", "external")
    known = current.get(field) is not None if strict else has is not None
    yield f"{current.get(field, '0') if known else printing.UNKNOWN}/{target.get(field, '0')}"
    if strict:
        yield " (avg)"
