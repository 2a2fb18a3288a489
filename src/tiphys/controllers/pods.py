"""What controllers of pods need to know about pods: are they active, ready, available; which one to delete first."""

from __future__ import annotations

import math
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
    return {"apiVersion": "v1", "kind": "Pod", "metadata": present, "spec": template["spec"]}


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

    def compare(one: Object, other: Object) -> int:
        return _compare(one, other, per_node, now)

    return sorted(pods, key=cmp_to_key(compare))


def _compare(one: Object, other: Object, per_node: Mapping[str, int], now: float) -> int:
    for left, right in zip(_static_key(one, per_node), _static_key(other, per_node), strict=True):
        if left != right:
            return -1 if left < right else 1
    if ready(one) and ready(other) and ready_since(one) != ready_since(other):
        return _younger_first(one, other, ready_since(one), ready_since(other), now)
    restarts = _restarts(one), _restarts(other)
    if restarts[0] != restarts[1]:
        return -1 if restarts[0] > restarts[1] else 1
    if created(one) != created(other):
        return _younger_first(one, other, created(one), created(other), now)
    return 0


def _static_key(pod: Object, per_node: Mapping[str, int]) -> tuple[int, ...]:
    node = spec(pod).get("nodeName") or ""
    return bool(node), _PHASES.get(phase(pod), -1), ready(pod), _deletion_cost(pod), -per_node.get(node, 0)


def _deletion_cost(pod: Object) -> int:
    try:
        return int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _younger_first(one: Object, other: Object, at: float, other_at: float, now: float) -> int:
    """By the logarithm of age; equal ranks are told apart by uid, which is as good as random."""
    rank, other_rank = _magnitude(now - at), _magnitude(now - other_at)
    if rank != other_rank:
        return rank - other_rank
    return -1 if uid(one) < uid(other) else 1


def _magnitude(seconds: float) -> int:
    return int(math.log2(seconds * 1e9)) if seconds > 0 else -1


def _restarts(pod: Object) -> tuple[int, int]:
    sidecars = {each["name"] for each in spec(pod).get("initContainers") or () if each.get("restartPolicy") == "Always"}
    regular = status(pod).get("containerStatuses") or ()
    initial = status(pod).get("initContainerStatuses") or ()
    return (
        max((int_of(each.get("restartCount")) for each in regular), default=0),
        max((int_of(each.get("restartCount")) for each in initial if each["name"] in sidecars), default=0),
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
