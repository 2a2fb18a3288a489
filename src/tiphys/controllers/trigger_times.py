"""When the change happened that makes a controller write endpoints: what network programming latency is measured by.

The time is the earliest of those that are new since the last look: a pod's readiness changed, a Service was created.
It is told in the annotation `endpoints.kubernetes.io/last-change-trigger-time`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers.objects import condition, created, moment, name, status

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    """What was seen of each Service at the last look."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, dict[str, float]]] = {}

    def note(self, key: str, service: Object, pods: Iterable[Object]) -> float:
        """Seconds since the epoch of the earliest new change; 0 if nothing is new."""
        known = self._seen.get(key)
        last, last_of_pods = known or (0.0, {})
        times = {name(pod): at for pod in pods if (at := _ready_changed(pod))}
        self._seen[key] = created(service), times
        if known is None:
            return created(service)
        fresh = [at for pod, at in times.items() if at > last_of_pods.get(pod, 0.0)]
        if created(service) > last:
            fresh.append(created(service))
        return min(fresh, default=0.0)

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


def annotated(annotations: Mapping[str, str], trigger: float) -> dict[str, str]:
    """`annotations` with the time, or without one if there is none."""
    kept = {key: value for key, value in annotations.items() if key != TRIGGER_TIME}
    return {**kept, TRIGGER_TIME: rfc3339(trigger)} if trigger else kept


def stamped(obj: Mapping[str, Any], trigger: float) -> dict[str, Any]:
    """An object with the time in its annotations."""
    metadata = obj["metadata"]
    notes = annotated(metadata.get("annotations") or {}, trigger)
    rest = {key: value for key, value in metadata.items() if key != "annotations"}
    return {**obj, "metadata": {**rest, **({"annotations": notes} if notes else {})}}


def _ready_changed(pod: Object) -> float:
    found = condition(status(pod), "Ready")
    return moment(found.get("lastTransitionTime")) if found is not None else 0.0
