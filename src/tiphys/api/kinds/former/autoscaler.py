"""HorizontalPodAutoscaler of autoscaling/v2beta1, whose metrics are flat, and v2beta2, which became v2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiphys.api.kinds.autoscaling.horizontalpodautoscaler import HorizontalPodAutoscaler
from tiphys.api.kinds.autoscaling.hpa_conversion import DEFAULT_SHARE, cpu_metric, deep_metric, flat_metric
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import child, setdefaults
from tiphys.api.kinds.former.base import Former, structs

_SOURCES, _CURRENT = ("spec", "metrics"), ("status", "currentMetrics")


class SecondBeta(Former, HorizontalPodAutoscaler):
    """autoscaling/v2beta2"""


class FirstBeta(Former, HorizontalPodAutoscaler):
    """autoscaling/v2beta1"""

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, minReplicas=1)
        if not spec.get("metrics"):
            spec["metrics"] = [flat_metric(cpu_metric(DEFAULT_SHARE), source=True)]

    def renew(self, obj: MutableObject) -> None:
        _convert(obj, deep_metric)

    def restore(self, obj: MutableObject) -> None:
        (obj.get("spec") or {}).pop("behavior", None)
        _convert(obj, flat_metric)


def _convert(obj: MutableObject, change: Callable[..., Mapping[str, Any]]) -> None:
    for part, field in (_SOURCES, _CURRENT):
        holder = obj.get(part) or {}
        if holder.get(field):
            holder[field] = [change(metric, source=part == "spec") for metric in structs(holder[field])]
