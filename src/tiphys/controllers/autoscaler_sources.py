"""One metric of an autoscaler: asked for, turned into a number of replicas, and shown in the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api import selectors
from tiphys.client.types import Object
from tiphys.controllers import autoscaler_replicas as replicas
from tiphys.controllers.autoscaler_metrics import Metrics
from tiphys.controllers.autoscaler_replicas import Conditions, Proposal, Unmeasurable
from tiphys.controllers.autoscaler_state import amount, milli
from tiphys.controllers.disruption_state import selector_text

Struct = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled: its pods by `selector`, and its sizes by spec and status."""

    namespace: str
    selector: str
    pods: Sequence[Object]
    wanted: int
    present: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric says: the size, the metric's name for messages, its entry in the status."""

    replicas: int
    name: str
    status: Struct


class Failed(Exception):
    """A metric could not be had: `reason` and `why` for an event and the condition, str() for who adds them up."""

    def __init__(self, reason: str, why: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.why = why


async def measure(metrics: Metrics, source: Struct, target: Target, given: Conditions) -> Measured:
    """What `source`, an entry of spec.metrics, asks for. Raises Failed."""
    kind = str(source.get("type") or "")
    reason = f"FailedGet{kind}Metric"
    try:
        if kind == "Resource":
            return await _resource(metrics, source["resource"], "", target, given)
        if kind == "ContainerResource":
            wanted = source["containerResource"]
            return await _resource(metrics, wanted, wanted["container"], target, given)
        if kind == "Pods":
            return await _pods(metrics, source["pods"], target, given)
        if kind == "Object":
            return await _object(metrics, source["object"], target, given)
        if kind == "External":
            return await _external(metrics, source["external"], target, given)
    except (Unmeasurable, ValueError) as error:
        raise Failed(reason, str(error), f"{_failure(source)}: {error}") from error
    except (KeyError, TypeError) as error:  # stored by somebody who did not ask the API server
        text = f"invalid {kind} metric source: {error}"
        raise Failed("InvalidMetricSourceType", text, text) from error
    text = f'unknown metric source type "{kind}"'
    raise Failed("InvalidMetricSourceType", text, text)


def leading(found: Sequence[Measured]) -> Measured | None:
    """The metric that asks for most: the first of them, but one that asks for nothing gives way to the next."""
    best: Measured | None = None
    for each in found:
        if best is None or best.replicas == 0 or each.replicas > best.replicas:
            best = each
    return best


def _failure(source: Struct) -> str:
    kind = source["type"]
    if kind == "Resource":
        return f"failed to get {source['resource']['name']} resource metric value"
    if kind == "ContainerResource":
        return f"failed to get {source['containerResource']['container']} container metric value"
    metric = source[kind.lower()]["metric"]["name"]
    per_pod = source[kind.lower()]["target"].get("averageValue") is not None
    if kind == "External":
        inner = f"failed to get {metric} external metric" if per_pod else f"failed to get external metric {metric}"
        return f"failed to get {metric} external metric value: {inner}"
    if kind == "Object" and per_pod:
        return f"failed to get object metric value: failed to get {metric} object metric"
    return f"failed to get {kind.lower()} metric value"


async def _resource(metrics: Metrics, source: Struct, container: str, target: Target, given: Conditions) -> Measured:
    resource, wanted = source["name"], source["target"]
    average, share = wanted.get("averageValue"), wanted.get("averageUtilization")
    if average is None and share is None:
        neither = "neither an average utilization target nor an average value (usage) target was set"
        raise Unmeasurable(f"invalid resource metric source: {neither}")
    what = "usage" if average is not None else "utilization"
    try:
        samples = await _samples(metrics, target, resource, container)
        if average is not None:
            found = replicas.by_average(target.pods, samples, target.wanted, milli(average), resource, given)
        else:
            found = replicas.by_utilization(target.pods, samples, target.wanted, share, resource, container, given)
    except Unmeasurable as error:
        raise Unmeasurable(f"failed to get {resource} {what}: {error}") from error
    current: dict[str, Any] = {"averageValue": amount(found.usage, resource)}
    name = f"{resource} resource"
    if average is None:
        current["averageUtilization"] = found.utilization
        name = f"{resource} {'container ' if container else ''}resource utilization (percentage of request)"
    shown: dict[str, Any] = {"name": resource, "current": current}
    if container:
        shown["container"] = container
        return Measured(found.replicas, name, {"type": "ContainerResource", "containerResource": shown})
    return Measured(found.replicas, name, {"type": "Resource", "resource": shown})


async def _samples(metrics: Metrics, target: Target, resource: str, container: str) -> replicas.Samples:
    try:
        return await metrics.of_pods(target.namespace, target.selector, resource, container)
    except Unmeasurable as error:
        raise Unmeasurable(f"unable to get metrics for resource {resource}: {error}") from error


async def _pods(metrics: Metrics, source: Struct, target: Target, given: Conditions) -> Measured:
    metric = source["metric"]
    wanted = milli(source["target"]["averageValue"])
    try:
        samples = await metrics.custom_of_pods(target.namespace, target.selector, metric["name"], _selector(metric))
    except Unmeasurable as error:
        raise Unmeasurable(f"unable to get metric {metric['name']}: {error}") from error
    found = replicas.by_average(target.pods, samples, target.wanted, wanted, "", given)
    shown = {"metric": _identifier(metric), "current": {"averageValue": amount(found.usage)}}
    return Measured(found.replicas, f"pods metric {metric['name']}", {"type": "Pods", "pods": shown})


async def _object(metrics: Metrics, source: Struct, target: Target, given: Conditions) -> Measured:
    metric, described, wanted = source["metric"], source["describedObject"], source["target"]
    per_pod = wanted["type"] == "AverageValue" and wanted.get("averageValue") is not None
    if not per_pod and not (wanted["type"] == "Value" and wanted.get("value") is not None):
        neither = "neither a value target nor an average value target was set"
        raise Unmeasurable(f"invalid object metric source: {neither}")
    try:
        usage = await metrics.custom_of_object(target.namespace, described, metric["name"], _selector(metric))
    except Unmeasurable as error:
        where = f"{described['kind']} on {target.namespace} {described['name']}"  # upstream's words in upstream's order
        text = f"unable to get metric {metric['name']}: {where}/{error}"
        raise Unmeasurable(text) from error
    found, field = _of_one_value(usage, wanted, target, given, per_pod=per_pod)
    shown = {"metric": _identifier(metric), "current": {field: amount(found.usage)}, "describedObject": described}
    name = f"{described['kind']} metric {metric['name']}"
    if per_pod:
        name = f"external metric {metric['name']}({selector_text(metric.get('selector'))})"
    return Measured(found.replicas, name, {"type": "Object", "object": shown})


async def _external(metrics: Metrics, source: Struct, target: Target, given: Conditions) -> Measured:
    metric, wanted = source["metric"], source["target"]
    per_pod = wanted.get("averageValue") is not None
    if not per_pod and wanted.get("value") is None:
        neither = "neither a value target nor an average value target was set"
        raise Unmeasurable(f"invalid external metric source: {neither}")
    usage = await _external_usage(metrics, metric, target)
    found, field = _of_one_value(usage, wanted, target, given, per_pod=per_pod)
    shown = {"metric": _identifier(metric), "current": {field: amount(found.usage)}}
    name = f"external metric {metric['name']}({selector_text(metric.get('selector'))})"
    return Measured(found.replicas, name, {"type": "External", "external": shown})


async def _external_usage(metrics: Metrics, metric: Struct, target: Target) -> int:
    try:
        values = await metrics.external(target.namespace, metric["name"], _selector(metric))
    except Unmeasurable as error:
        where = f"{target.namespace}/{metric['name']}/{selector_text(metric.get('selector'))}"
        raise Unmeasurable(f"unable to get external metric {where}: {error}") from error
    return min(replicas.LARGEST_USAGE, sum(values))


def _of_one_value(
    usage: int, wanted: Struct, target: Target, given: Conditions, *, per_pod: bool
) -> tuple[Proposal, str]:
    if per_pod:
        average = milli(wanted["averageValue"])
        return replicas.by_share(target.present, usage, average, given.tolerances), "averageValue"
    value = milli(wanted["value"])
    return replicas.by_total(target.pods, target.wanted, usage, value, given.tolerances), "value"


def _selector(metric: Struct) -> str:
    return str(selectors.from_object(metric.get("selector")))


def _identifier(metric: Struct) -> Struct:
    return {key: metric[key] for key in ("name", "selector") if metric.get(key) is not None}
