"""Rules of a HorizontalPodAutoscaler's spec: what is scaled, by which metrics, how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_label, path_segment
from tiphys.api.validation.quantities import amount, container_resource_name, non_negative_quantity

Struct = Mapping[str, Any]

SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
"""Types of metrics and the fields that hold them."""
_ORDER = ("object", "external", "pods", "resource", "containerResource")
_TARGETS = ("Utilization", "Value", "AverageValue")
_MAX_PERIOD, _MAX_WINDOW = 1800, 3600


def spec(errors: Errors, path: str, value: Struct, was: Struct | None) -> None:
    """`was` is the spec before an update, parts of which are well as they are."""
    low, high, target = value.get("minReplicas"), value.get("maxReplicas") or 0, value.get("scaleTargetRef") or {}
    lowest = 0 if was and was.get("minReplicas") == 0 else 1
    if low is not None and low < lowest:
        errors.invalid(f"{path}.minReplicas", low, f"must be greater than or equal to {lowest}")
    if not high:
        errors.required(f"{path}.maxReplicas", "must be set and greater than 0")
    elif high < 0:
        errors.invalid(f"{path}.maxReplicas", high, "must be greater than or equal to 1")
    if low is not None and high < low:
        errors.invalid(f"{path}.maxReplicas", high, "must be greater than or equal to `minReplicas`")
    earlier = None if was is None else was.get("scaleTargetRef") or {}
    same = earlier is not None and all(earlier.get(key) == target.get(key) for key in ("apiVersion", "kind"))
    grouped = target.get("kind") != "ReplicationController"
    _reference(errors, f"{path}.scaleTargetRef", target, any_version=same, grouped=grouped)
    _metrics(errors, f"{path}.metrics", value.get("metrics") or (), low, was or {})
    if behavior := value.get("behavior"):
        for name in ("scaleUp", "scaleDown"):
            if (rules := behavior.get(name)) is not None:
                _rules(errors, f"{path}.behavior.{name}", rules)


def _version_problem(version: str, *, grouped: bool) -> str:
    if version.count("/") > 1:
        return f"unexpected GroupVersion string: {version}"
    no_group = version == "/" or "/" not in version or version.startswith("/")
    return "apiVersion must specify API group" if grouped and no_group else ""


def _reference(errors: Errors, path: str, reference: Struct, *, any_version: bool, grouped: bool) -> None:
    for name in ("kind", "name"):
        if errors.non_empty(f"{path}.{name}", reference.get(name)):
            errors.each(f"{path}.{name}", reference[name], path_segment(reference[name]))
    version = reference.get("apiVersion", "")
    if not any_version and (problem := _version_problem(version, grouped=grouped)):
        errors.invalid(f"{path}.apiVersion", version, problem)


def _metrics(errors: Errors, path: str, metrics: Sequence[Struct], least: int | None, was: Struct) -> None:
    described = [(metric.get("object") or {}).get("describedObject") or {} for metric in was.get("metrics") or ()]
    any_version = any(_version_problem(part.get("apiVersion", ""), grouped=False) for part in described)
    for i, metric in enumerate(metrics):
        _metric(errors, f"{path}[{i}]", metric, any_version=any_version)
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.forbidden(path, detail)


def _metric(errors: Errors, path: str, metric: Struct, *, any_version: bool) -> None:
    kind = metric.get("type", "")
    errors.non_empty(f"{path}.type", kind, "must specify a metric source type")
    errors.one_of(f"{path}.type", kind, tuple(SOURCES))
    present = [name for name in _ORDER if metric.get(name) is not None]
    if present:
        _source(errors, f"{path}.{present[0]}", present[0], metric[present[0]], any_version=any_version)
    expected = SOURCES.get(kind, "")
    if not expected:
        errors.one_of(f"{path}.type", kind, tuple(SOURCES))
    elif expected not in present:
        errors.required(f"{path}.{expected}", "must populate information for the given metric source")
    if len(present) != 1:
        for name in sorted(present):
            if name != expected:
                errors.forbidden(f"{path}.{name}", "must populate the given metric source only")


def _source(errors: Errors, path: str, name: str, source: Struct, *, any_version: bool) -> None:
    target, where = source.get("target") or {}, f"{path}.target"
    value, average, share = (target.get(key) for key in ("value", "averageValue", "averageUtilization"))
    if name == "object":
        described = source.get("describedObject") or {}
        _reference(errors, f"{path}.describedObject", described, any_version=any_version, grouped=False)
    if name in ("object", "external", "pods"):
        _identifier(errors, f"{path}.metric", source.get("metric") or {})
    else:
        _resource(errors, path, source, in_container=name == "containerResource")
    _target(errors, where, target)
    if name == "object" and value is None and average is None:
        errors.required(f"{where}.averageValue", "must set either a target value or averageValue")
    elif name == "external":
        _one(
            errors, where, "a target value for metric", "a per-pod target", (value, average), ("averageValue", "value")
        )
    elif name == "pods" and average is None:
        errors.required(f"{where}.averageValue", "must specify a positive target averageValue")
    elif name in ("resource", "containerResource"):
        fields = ("averageUtilization", "averageValue")
        _one(errors, where, "a target raw value", "a target utilization", (share, average), fields)


def _one(errors: Errors, path: str, one: str, other: str, values: tuple[Any, Any], fields: tuple[str, str]) -> None:
    """Exactly one of the two values has to be there; `fields` are blamed for none and for both of them."""
    if values == (None, None):
        errors.required(f"{path}.{fields[0]}", f"must set either {one} or {other}")
    elif None not in values:
        errors.forbidden(f"{path}.{fields[1]}", f"may not set both {one} and {other}")


def _identifier(errors: Errors, path: str, metric: Struct) -> None:
    if errors.non_empty(f"{path}.name", metric.get("name"), "must specify a metric name"):
        errors.each(f"{path}.name", metric["name"], path_segment(metric["name"]))


def _resource(errors: Errors, path: str, source: Struct, *, in_container: bool) -> None:
    named = errors.non_empty(f"{path}.name", source.get("name"), "must specify a resource name")
    if not in_container:
        return
    if named:
        container_resource_name(errors, f"{path}.name", source["name"])
    if errors.non_empty(f"{path}.container", source.get("container"), "must specify a container"):
        errors.each(f"{path}.container", source["container"], dns_label(source["container"]))


def _target(errors: Errors, path: str, target: Struct) -> None:
    kind = target.get("type", "")
    errors.non_empty(f"{path}.type", kind, "must specify a metric target type")
    if kind not in _TARGETS:
        errors.invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
    for name in ("value", "averageValue"):
        if (quantity := target.get(name)) is not None and amount(quantity) <= 0:
            errors.invalid(f"{path}.{name}", quantity, "must be positive")
    if (share := target.get("averageUtilization")) is not None and share < 1:
        errors.invalid(f"{path}.averageUtilization", share, "must be greater than 0")


def _rules(errors: Errors, path: str, rules: Struct) -> None:
    window, policies = rules.get("stabilizationWindowSeconds"), rules.get("policies") or ()
    if window is not None and window < 0:
        errors.invalid(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
    if window is not None and window > _MAX_WINDOW:
        errors.invalid(f"{path}.stabilizationWindowSeconds", window, f"must be less than or equal to {_MAX_WINDOW}")
    errors.one_of(f"{path}.selectPolicy", rules.get("selectPolicy"), ("Disabled", "Max", "Min"))
    errors.non_empty(f"{path}.policies", policies, "must specify at least one Policy")
    for i, policy in enumerate(policies):
        _policy(errors, f"{path}.policies[{i}]", policy)
    if (tolerance := rules.get("tolerance")) is not None:
        non_negative_quantity(errors, f"{path}.tolerance", tolerance)


def _policy(errors: Errors, path: str, policy: Struct) -> None:
    period = policy.get("periodSeconds") or 0
    errors.one_of(f"{path}.type", policy.get("type", ""), ("Percent", "Pods"))
    errors.positive(f"{path}.value", policy.get("value") or 0)
    errors.positive(f"{path}.periodSeconds", period)
    if period > _MAX_PERIOD:
        errors.invalid(f"{path}.periodSeconds", period, f"must be less than or equal to {_MAX_PERIOD}")
