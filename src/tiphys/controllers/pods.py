"""What controllers of pods need to know about pods: are they active, ready, available; which one to delete first."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cmp_to_key
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    condition,
    controller_reference,
    created,
    deleting,
    int_of,
    labels,
    moment,
    name,
    spec,
    status,
    uid,
)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

_COST = re.compile(r"0|-[0-9]{1,11}|[1-9][0-9]{0,10}")
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase(pod: Object) -> str:
    return str(status(pod).get("phase") or "")


def terminal(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def active(pod: Object) -> bool:
    """Neither finished nor being deleted."""
    return not terminal(pod) and not deleting(pod)


def terminating(pod: Object) -> bool:
    """Being deleted, not finished yet."""
    return deleting(pod) and not terminal(pod)


def ready(pod: Object) -> bool:
    found = condition(status(pod), "Ready")
    return found is not None and found.get("status") == "True"


def ready_since(pod: Object) -> float:
    """When it became ready; 0 if it is not."""
    found = condition(status(pod), "Ready")
    return moment(found.get("lastTransitionTime")) if found is not None and found.get("status") == "True" else 0.0


def available(pod: Object, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least so long."""
    if not ready(pod):
        return False
    since = ready_since(pod)
    return min_ready_seconds == 0 or (since > 0 and since + min_ready_seconds <= now)


def next_availability(pods: Iterable[Object], min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the next of `pods` becomes available by waiting."""
    if min_ready_seconds <= 0:
        return None
    waits = (ready_since(pod) + min_ready_seconds - now for pod in pods if ready_since(pod))
    return min((wait for wait in waits if wait > 0), default=None)


def from_template(template: Mapping[str, Any], owner: Object) -> dict[str, Any]:
    """The pod that `owner` creates from its template; the server completes its name."""
    meta = template.get("metadata") or {}
    generated = f"{name(owner)}-"
    wanted: dict[str, Any] = {
        "generateName": generated if len(generated) <= 253 else name(owner),
        "labels": dict(meta.get("labels") or {}),
        "annotations": dict(meta.get("annotations") or {}),
        "finalizers": list(meta.get("finalizers") or ()),
        "ownerReferences": [controller_reference(owner)],
    }
    present = {key: value for key, value in wanted.items() if value}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": present, "spec": template.get("spec") or {}}


def least_advanced(pods: Iterable[Object]) -> list[Object]:
    """`pods`, the least advanced in front: unassigned, pending, not ready, ready for a short time, often restarted,
    young."""
    return sorted(pods, key=lambda pod: (*_stage(pod), _late(ready_since(pod)), _restarts(pod), _late(created(pod))))


def ranked_for_deletion(pods: Sequence[Object], related: Iterable[Object], now: float) -> list[Object]:
    """`pods`, those to delete first in front; `related` are all pods of the same application.

    The order is the ReplicaSet's documented one: unassigned, pending, not ready, cheap, doubled up on a node,
    ready for a short time, often restarted, young; times count by their logarithm.
    """
    per_node: dict[str, int] = {}
    for pod in related:
        if active(pod):
            node = spec(pod).get("nodeName") or ""
            per_node[node] = per_node.get(node, 0) + 1
    ranked = [_Rank(pod, per_node, now) for pod in pods]
    ranked.sort(key=cmp_to_key(_compare))
    return [rank.pod for rank in ranked]


class _Rank:
    """What is compared of a pod, worked out once."""

    __slots__ = ("born", "pod", "ready", "restarts", "static", "uid")

    def __init__(self, pod: Object, per_node: Mapping[str, int], now: float) -> None:
        doubled = per_node.get(spec(pod).get("nodeName") or "", 0)
        self.pod, self.uid = pod, uid(pod)
        self.static = (*_stage(pod), _deletion_cost(pod), -doubled)
        self.ready = _aged(ready_since(pod), now)
        self.restarts = _restarts(pod)
        self.born = _aged(created(pod), now)


def _compare(one: _Rank, other: _Rank) -> int:
    if one.static != other.static:
        return -1 if one.static < other.static else 1
    if one.ready[0] != other.ready[0]:
        return _younger_first(one, other, one.ready, other.ready)
    if one.restarts != other.restarts:
        return -1 if one.restarts < other.restarts else 1
    if one.born[0] != other.born[0]:
        return _younger_first(one, other, one.born, other.born)
    return 0


def _younger_first(one: _Rank, other: _Rank, at: tuple[float, int], other_at: tuple[float, int]) -> int:
    """By the logarithm of age; equal ones are told apart by uid, which is as good as random. No time comes first."""
    if not at[0] or not other_at[0]:
        return -1 if not at[0] else 1
    if at[1] != other_at[1]:
        return at[1] - other_at[1]
    return -1 if one.uid < other.uid else 1


def _aged(at: float, now: float) -> tuple[float, int]:
    """(the time, the magnitude of what has passed since)."""
    return at, int(math.log2((now - at) * 1e9)) if at < now else -1


def _late(at: float) -> float:
    """A sort key: late times first, no time before them."""
    return -at if at else -math.inf


def _stage(pod: Object) -> tuple[int, int, int]:
    return bool(spec(pod).get("nodeName")), _PHASES.get(phase(pod), 0), ready(pod)


def _deletion_cost(pod: Object) -> int:
    """As the annotation says; 0 if that is no number as upstream takes it."""
    text = annotations_of(pod).get(DELETION_COST) or "0"
    cost = int(text) if _COST.fullmatch(text) else 0
    return cost if -0x80000000 <= cost <= 0x7FFFFFFF else 0


def _restarts(pod: Object) -> tuple[int, int]:
    """The most restarts of a container and of a sidecar, negative: a sort key that puts many first."""
    sidecars = {each["name"] for each in spec(pod).get("initContainers") or () if each.get("restartPolicy") == "Always"}
    regular = status(pod).get("containerStatuses") or ()
    initial = status(pod).get("initContainerStatuses") or ()
    return (
        -max((int_of(each.get("restartCount")) for each in regular), default=0),
        -max((int_of(each.get("restartCount")) for each in initial if each["name"] in sidecars), default=0),
    )


def fully_labeled(pod: Object, template: Mapping[str, Any]) -> bool:
    """Whether it has all labels of the template."""
    wanted = (template.get("metadata") or {}).get("labels") or {}
    return wanted.items() <= labels(pod).items()


def orphans_by_namespace(pod: Object) -> Iterable[str]:
    """An informer's index: the namespace of what no controller manages."""
    meta = pod["metadata"]
    managed = any(reference.get("controller") for reference in meta.get("ownerReferences") or ())
    return () if managed else (meta.get("namespace") or "",)
