"""HorizontalPodAutoscaler between autoscaling/v1 and autoscaling/v2.

v1 knows one target, the share of the CPU. What else v2 says is kept in annotations of v1 objects, metrics and
conditions in a v1-like form of their own, the behaviour by the names that Go has for its fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.validation.quantities import amount

Struct = Mapping[str, Any]

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _CURRENT = f"{_PREFIX}metrics", f"{_PREFIX}current-metrics"
_BEHAVIOR, _CONDITIONS = f"{_PREFIX}behavior", f"{_PREFIX}conditions"
_ALL = (_METRICS, _CURRENT, _BEHAVIOR, _CONDITIONS)
DEFAULT_SHARE = 80
_FIELDS = ("object", "pods", "resource", "containerResource", "external")
_CONDITION = ("type", "status", "lastTransitionTime", "reason", "message")
_POLICY = ("Type", "Value", "PeriodSeconds")


def cpu_metric(share: int) -> dict[str, Any]:
    """The one metric that v1 has a field for."""
    target = {"type": "Utilization", "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def to_v1(obj: MutableObject) -> MutableObject:
    """A v1 object of a v2 one, which stays as it is."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    annotations = {k: v for k, v in (_annotations(obj) or {}).items() if k not in _ALL}
    metrics, current = spec.get("metrics") or (), status.get("currentMetrics") or ()
    others = [flat_metric(metric, source=True) for metric in metrics if not _is_share(metric)]
    extras = (
        (_METRICS, others),
        (_CURRENT, [flat_metric(metric, source=False) for metric in current]),
        (_BEHAVIOR, _behavior_to_v1(spec["behavior"]) if spec.get("behavior") is not None else None),
        (_CONDITIONS, [_only(condition, _CONDITION) for condition in status.get("conditions") or ()]),
    )
    annotations |= {name: _encode(value) for name, value in extras if value}
    shares = [metric["resource"]["target"]["averageUtilization"] for metric in metrics if _is_share(metric)]
    used = [
        share
        for metric in current
        if metric.get("type") == "Resource" and (metric.get("resource") or {}).get("name") == "cpu"
        if (share := (metric["resource"].get("current") or {}).get("averageUtilization")) is not None
    ]
    new_spec = _only(spec, ("scaleTargetRef", "minReplicas", "maxReplicas"))
    new_status = _only(status, ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"))
    if shares:
        new_spec["targetCPUUtilizationPercentage"] = shares[0]
    if used:
        new_status["currentCPUUtilizationPercentage"] = used[-1]
    new_status = {"currentReplicas": 0, "desiredReplicas": 0, **new_status}
    return _with(obj, "autoscaling/v1", annotations, new_spec, new_status)


def to_v2(obj: MutableObject) -> MutableObject:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    annotations = _annotations(obj) or {}
    new_spec = _only(spec, ("scaleTargetRef", "minReplicas", "maxReplicas"))
    new_status = _only(status, ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"))
    share, used = spec.get("targetCPUUtilizationPercentage"), status.get("currentCPUUtilizationPercentage")
    metrics = [deep_metric(metric, source=True) for metric in _decode(annotations.get(_METRICS), list) or ()]
    if share is not None:
        metrics.append(cpu_metric(share))
    new_spec["metrics"] = metrics or [cpu_metric(DEFAULT_SHARE)]
    if behavior := _behavior_to_v2(_decode(annotations.get(_BEHAVIOR), dict) or {}):
        new_spec["behavior"] = behavior
    current = [deep_metric(metric, source=False) for metric in _decode(annotations.get(_CURRENT), list) or ()]
    if not current and used is not None:
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}}]
    new_status["currentMetrics"] = current or None
    if conditions := _decode(annotations.get(_CONDITIONS), list):
        new_status["conditions"] = conditions
    kept = {name: value for name, value in annotations.items() if name not in _ALL}
    return _with(obj, "autoscaling/v2", kept, new_spec, new_status)


def _annotations(obj: Struct) -> Mapping[str, str] | None:
    return (obj.get("metadata") or {}).get("annotations")


def _with(obj: Struct, version: str, annotations: Struct, spec: Any, status: Any) -> MutableObject:
    metadata = {**(obj.get("metadata") or {})}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return {**obj, "apiVersion": version, "metadata": metadata, "spec": spec, "status": status}


def _only(struct: Struct, names: Sequence[str]) -> dict[str, Any]:
    return {name: struct[name] for name in names if struct.get(name) is not None}


def _encode(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _decode(text: str | None, kind: type) -> Any:
    """What an annotation says; nothing when it is no JSON of that kind."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return None
    if kind is list and isinstance(value, list):
        return [part for part in value if isinstance(part, dict)]
    return value if isinstance(value, kind) else None


def _is_share(metric: Struct) -> bool:
    resource = metric.get("resource") or {}
    share = (resource.get("target") or {}).get("averageUtilization")
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and share is not None


def flat_metric(metric: Struct, *, source: bool) -> dict[str, Any]:
    """A metric as v2beta1 has it; `source` is True for one of the spec, False for one of the status."""
    converted: dict[str, Any] = {"type": metric.get("type", "")}
    for name in _FIELDS:
        if (part := metric.get(name)) is not None:
            converted[name] = _FLAT[name](part, source)
    return converted


def _numbers(part: Struct, source: bool) -> tuple[str, Struct]:
    return ("target", part.get("target") or {}) if source else ("current", part.get("current") or {})


def _flat_resource(part: Struct, source: bool) -> dict[str, Any]:
    word, numbers = _numbers(part, source)
    average = numbers.get("averageValue") if source else numbers.get("averageValue", "0")
    values = {
        "name": part.get("name", ""),
        f"{word}AverageUtilization": numbers.get("averageUtilization"),
        f"{word}AverageValue": average,
        "container": part.get("container"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _flat_object(part: Struct, source: bool) -> dict[str, Any]:
    word, numbers = _numbers(part, source)
    described, metric = part.get("describedObject") or {}, part.get("metric") or {}
    values = {
        "target": _only({"kind": "", "name": "", **described}, ("kind", "name", "apiVersion")),
        "metricName": metric.get("name", ""),
        f"{word}Value": numbers.get("value", "0"),
        "selector": metric.get("selector"),
        "averageValue": numbers.get("averageValue"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _flat_pods(part: Struct, source: bool) -> dict[str, Any]:
    word, numbers = _numbers(part, source)
    metric = part.get("metric") or {}
    values = {
        "metricName": metric.get("name", ""),
        f"{word}AverageValue": numbers.get("averageValue", "0"),
        "selector": metric.get("selector"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _flat_external(part: Struct, source: bool) -> dict[str, Any]:
    word, numbers = _numbers(part, source)
    metric = part.get("metric") or {}
    values = {
        "metricName": metric.get("name", ""),
        "metricSelector": metric.get("selector"),
        f"{word}Value": numbers.get("value") if source else numbers.get("value", "0"),
        f"{word}AverageValue": numbers.get("averageValue"),
    }
    return {name: value for name, value in values.items() if value is not None}


_FLAT: dict[str, Callable[[Struct, bool], dict[str, Any]]] = {
    "object": _flat_object,
    "pods": _flat_pods,
    "resource": _flat_resource,
    "containerResource": _flat_resource,
    "external": _flat_external,
}


def deep_metric(metric: Struct, *, source: bool) -> dict[str, Any]:
    """A metric of v2beta1 as v2 has it."""
    converted: dict[str, Any] = {"type": metric.get("type", "")}
    for name in _FIELDS:
        if isinstance(part := metric.get(name), dict):
            converted[name] = _deep(name, part, source=source)
    return converted


def _deep(name: str, part: Struct, *, source: bool) -> dict[str, Any]:
    word = "target" if source else "current"
    numbers = {
        "value": part.get(f"{word}Value"),
        "averageValue": part.get("averageValue", part.get(f"{word}AverageValue")),
        "averageUtilization": part.get(f"{word}AverageUtilization"),
    }
    converted: dict[str, Any] = {}
    if name in ("resource", "containerResource"):
        converted = _only(part, ("name", "container"))
    else:
        selector = part.get("metricSelector" if name == "external" else "selector")
        converted["metric"] = {"name": part.get("metricName", ""), **({"selector": selector} if selector else {})}
    if name == "object":
        converted["describedObject"] = part.get("target") or {}
        if source and numbers["averageValue"] is not None and amount(numbers["value"]) == 0:
            numbers["value"] = None
    converted[word] = {key: value for key, value in numbers.items() if value is not None}
    if source:
        converted[word] = {"type": _target_type(name, numbers), **converted[word]}
    return converted


def _target_type(name: str, numbers: Struct) -> str:
    if name in ("resource", "containerResource"):
        return "AverageValue" if numbers["averageUtilization"] is None else "Utilization"
    if name == "pods" or (name == "object" and numbers["averageValue"] is not None):
        return "AverageValue"
    return "AverageValue" if name == "external" and numbers["value"] is None else "Value"


def _behavior_to_v1(behavior: Struct) -> dict[str, Any]:
    return {name: _rules_to_v1(behavior.get(name[0].lower() + name[1:])) for name in ("ScaleUp", "ScaleDown")}


def _rules_to_v1(rules: Struct | None) -> dict[str, Any] | None:
    if rules is None:
        return None
    policies = [
        {name: policy.get(name[0].lower() + name[1:]) for name in _POLICY} for policy in rules.get("policies") or ()
    ]
    return {
        "StabilizationWindowSeconds": rules.get("stabilizationWindowSeconds"),
        "SelectPolicy": rules.get("selectPolicy"),
        "Policies": policies or None,
        "Tolerance": rules.get("tolerance"),
    }


def _behavior_to_v2(behavior: Struct) -> dict[str, Any]:
    found = {}
    for name, rules in behavior.items():
        if name in ("ScaleUp", "ScaleDown") and isinstance(rules, dict):
            found[name[0].lower() + name[1:]] = _lowered(rules)
    return found


def _lowered(value: Any) -> Any:
    """A struct by its JSON names, without what is null."""
    if isinstance(value, list):
        return [_lowered(part) for part in value]
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: _lowered(part) for name, part in value.items() if name and part is not None}
    return value
