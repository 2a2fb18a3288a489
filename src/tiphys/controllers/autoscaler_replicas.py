"""How many replicas a metric asks for. Pure.

The wanted number is that of the pods that were measured, times usage over target. Pods that cannot be counted on
damp a change: those without a metric are taken to be at the target when scaling down and idle when scaling up, those
that are not ready yet are taken to be idle when scaling up. A change within the tolerance is none. (Kubernetes
documentation, "Horizontal Pod Autoscaling", algorithm details.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api import pod_resources, quantity
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import condition, deleting, moment, name, spec, status

LARGEST = 2**31 - 1
LARGEST_USAGE = 2**63 - 1


class Unmeasurable(Exception):
    """Why a metric gives no number."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A pod's metric: thousandths, when it was taken (seconds since the epoch) and over how many seconds."""

    value: int
    at: float = 0.0
    window: float = 60.0


Samples = Mapping[str, Sample]
"""By pod name."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Shares of the target within which usage may be off it."""

    down: float = 0.1
    up: float = 0.1

    def within(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Conditions:
    """What pods are judged by: `now`, and how long a pod's CPU is not to be trusted after its start (seconds)."""

    now: float
    cpu_initialization: float = 300.0
    readiness_delay: float = 30.0
    tolerances: Tolerances = Tolerances()


@dataclass(frozen=True, slots=True)
class Proposal:
    """So many replicas; usage in thousandths, utilization in percent of the request."""

    replicas: int
    usage: int
    utilization: int = 0


@dataclass(frozen=True, slots=True)
class Groups:
    """The pods of a target by what may be made of their metrics."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group(pods: Iterable[Object], samples: Samples, resource: str, given: Conditions) -> Groups:
    """Sort `pods`; `resource` is "" for metrics that are not a resource's."""
    ready = 0
    unready, missing, ignored = set(), set(), set()
    for pod in pods:
        if deleting(pod) or podlib.phase(pod) == "Failed":
            ignored.add(name(pod))
        elif podlib.phase(pod) == "Pending":
            unready.add(name(pod))
        elif name(pod) not in samples:
            missing.add(name(pod))
        elif resource == "cpu" and _starting(pod, samples[name(pod)], given):
            unready.add(name(pod))
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _starting(pod: Object, sample: Sample, given: Conditions) -> bool:
    """Whether its CPU is that of starting up."""
    found = condition(status(pod), "Ready")
    if found is None or not status(pod).get("startTime"):
        return True
    start, changed = moment(status(pod)["startTime"]), moment(found.get("lastTransitionTime"))
    unready = found.get("status") == "False"
    if start + given.cpu_initialization > given.now:
        return unready or sample.at < changed + sample.window
    return unready and start + given.readiness_delay > changed


def by_utilization(
    pods: Sequence[Object],
    samples: Samples,
    current: int,
    target: int,
    resource: str,
    container: str,
    given: Conditions,
) -> Proposal:
    """For a target in percent of the pods' requests. Raises Unmeasurable."""
    groups, measured = _measured(pods, samples, resource, given)
    requests = {name(pod): request_of(pod, container, resource) for pod in pods}

    def ratio(values: Mapping[str, int]) -> tuple[float, int, int]:
        counted = [each for each in values if each in requests]
        asked = sum(requests[each] for each in counted)
        if asked == 0:
            raise Unmeasurable("no metrics returned matched known pods")
        used = sum(values[each] for each in counted)
        share = _quotient(used * 100, asked)
        return share / target, _quotient(used, len(counted)), share

    fallback = {each: requests[each] * max(100, target) // 100 for each in groups.missing}
    return _proposal(groups, measured, fallback, current, ratio, given.tolerances)


def by_average(
    pods: Sequence[Object], samples: Samples, current: int, target: int, resource: str, given: Conditions
) -> Proposal:
    """For a target in thousandths a pod. Raises Unmeasurable."""
    groups, measured = _measured(pods, samples, resource, given)

    def ratio(values: Mapping[str, int]) -> tuple[float, int, int]:
        used = _quotient(sum(values.values()), len(values))
        return used / target, used, 0

    return _proposal(groups, measured, dict.fromkeys(groups.missing, target), current, ratio, given.tolerances)


def _quotient(number: int, divisor: int) -> int:
    """Towards zero, which for negative metrics is not what // does."""
    return abs(number) // divisor if number >= 0 else -(abs(number) // divisor)


def _measured(
    pods: Sequence[Object], samples: Samples, resource: str, given: Conditions
) -> tuple[Groups, dict[str, int]]:
    if not pods:
        raise Unmeasurable("no pods returned by selector while calculating replica count")
    groups = group(pods, samples, resource, given)
    left_out = groups.ignored | groups.unready
    measured = {each: sample.value for each, sample in samples.items() if each not in left_out}
    if not measured:
        raise Unmeasurable("did not receive metrics for targeted pods (pods might be unready)")
    return groups, measured


def _proposal(
    groups: Groups,
    measured: Mapping[str, int],
    fallback: Mapping[str, int],
    current: int,
    ratio: Callable[[Mapping[str, int]], tuple[float, int, int]],
    tolerances: Tolerances,
) -> Proposal:
    usage_ratio, usage, utilization = ratio(measured)
    damped = bool(groups.unready) and usage_ratio > 1.0
    if not damped and not groups.missing:
        wanted = current if tolerances.within(usage_ratio) else math.ceil(usage_ratio * groups.ready)
        return Proposal(wanted, usage, utilization)
    values = dict(measured)
    if usage_ratio < 1.0:
        values |= fallback
    elif usage_ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if damped:
        values |= dict.fromkeys(groups.unready, 0)
    again, _, _ = ratio(values)
    wanted = math.ceil(again * len(values))
    turned = (usage_ratio < 1.0 < again) or (again < 1.0 < usage_ratio)
    backwards = (again < 1.0 and wanted > current) or (again > 1.0 and wanted < current)
    if tolerances.within(again) or turned or backwards:
        wanted = current
    return Proposal(wanted, usage, utilization)


def by_total(pods: Sequence[Object], current: int, usage: int, target: int, tolerances: Tolerances) -> Proposal:
    """For one value of everything, with a target in thousandths. Raises Unmeasurable."""
    ratio = usage / target
    if current == 0:
        return Proposal(math.ceil(ratio), usage)
    if tolerances.within(ratio):
        return Proposal(current, usage)
    if not pods:
        text = "no pods returned by selector while calculating replica count"
        raise Unmeasurable(f"unable to calculate ready pods: {text}")
    ready = sum(podlib.phase(pod) == "Running" and podlib.ready(pod) for pod in pods)
    return Proposal(min(LARGEST, math.ceil(ratio * ready)), usage)


def by_share(current: int, usage: int, target: int, tolerances: Tolerances) -> Proposal:
    """For one value of everything, with a target in thousandths for each of the `current` pods."""
    wanted = current
    if current == 0 or not tolerances.within(usage / (target * current)):
        wanted = min(LARGEST, math.ceil(usage / target))
    share = usage if usage >= LARGEST_USAGE or not current else math.ceil(usage / current)
    return Proposal(wanted, share)


def request_of(pod: Object, container: str, resource: str) -> int:
    """What `pod`, or one container of it, asks for, in thousandths. Raises Unmeasurable."""
    if not container and (spec(pod).get("resources") or {}).get("requests"):
        return _pod_level(pod, resource)
    sidecars = [each for each in spec(pod).get("initContainers") or () if each.get("restartPolicy") == "Always"]
    containers = [*(spec(pod).get("containers") or ()), *sidecars]
    if container and all(each["name"] != container for each in containers):
        raise Unmeasurable(f"container {container} not found in Pod {name(pod)}")
    total = 0
    for each in containers:
        if container in ("", each["name"]):
            total += _request(each, resource, pod)
    return total


def _request(container: Mapping[str, Any], resource: str, pod: Object) -> int:
    asked = ((container.get("resources") or {}).get("requests") or {}).get(resource)
    if asked is None:
        raise Unmeasurable(f"missing request for {resource} in container {container['name']} of Pod {name(pod)}")
    return quantity.parse(str(asked)).milli


def _pod_level(pod: Object, resource: str) -> int:
    asked = pod_resources.requests(pod).get(resource)
    if asked is None:
        raise Unmeasurable(f"missing pod-level request for {resource} in Pod {name(pod)}")
    return asked if resource == "cpu" else asked * 1000
