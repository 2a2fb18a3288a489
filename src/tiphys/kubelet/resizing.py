"""A pod's resize in its state machine: what must change in containers that run, and what its status says of it. Pure.

The pod of the state machine is the one that the node has granted (allocation.py). Here it is compared with what its
containers have: a container is changed in place, or restarted where its resizePolicy wants that (KEP-1287).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiphys.api.quantity import Quantity
from tiphys.base.clock import parse_rfc3339, rfc3339
from tiphys.kubelet import instructions as do
from tiphys.kubelet.allocation import DEFERRED, INFEASIBLE, same, summary
from tiphys.kubelet.labels import Record
from tiphys.kubelet.podspec import Object, init_containers, main_containers
from tiphys.kubelet.resources import amounts, zero

if TYPE_CHECKING:
    from tiphys.kubelet.state import PodState

RETRY = 10.0
PENDING, PROGRESS = "PodResizePending", "PodResizeInProgress"


@dataclass(frozen=True, slots=True)
class Mark:
    """One of the two conditions. Times in seconds since the epoch."""

    reason: str
    message: str
    generation: int
    since: float
    at: float


@dataclass(slots=True)
class Resize:
    """What is known of it."""

    pending: Mark | None = None
    """Wanted, not granted."""
    progress: Mark | None = None
    """Granted, not everywhere yet."""
    applied: str | None = None
    """What the pod's cgroup was last set for; None: not known."""
    under_way: bool = False
    retry_at: float = 0

    def waiting_since(self) -> float:
        """Since when a grant is waited for; 0: it is not."""
        return self.pending.since if self.pending is not None and self.pending.reason == DEFERRED else 0


def recalled(status: Mapping[str, Any]) -> Resize:
    """What the API's status tells of before this kubelet was started."""
    found: dict[str, Mark] = {}
    for condition in status.get("conditions") or ():
        if condition["type"] in (PENDING, PROGRESS):
            since = parse_rfc3339(condition.get("lastTransitionTime") or rfc3339(0))
            at = parse_rfc3339(condition.get("lastProbeTime") or condition.get("lastTransitionTime") or rfc3339(0))
            generation = int(condition.get("observedGeneration") or 0)
            said = (condition.get("reason") or "", condition.get("message") or "")
            found[condition["type"]] = Mark(*said, generation, since, at)
    return Resize(found.get(PENDING), found.get(PROGRESS))


def conditions(resize: Resize) -> list[dict[str, Any]]:
    """As the status has them."""
    found = ((PENDING, resize.pending), (PROGRESS, resize.progress))
    return [_condition(kind, mark) for kind, mark in found if mark is not None]


def _condition(kind: str, mark: Mark) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": kind,
        "status": "True",
        "lastProbeTime": rfc3339(mark.at),
        "lastTransitionTime": rfc3339(mark.since),
    }
    if mark.generation:
        made["observedGeneration"] = mark.generation
    return made | {name: text for name, text in (("reason", mark.reason), ("message", mark.message)) if text}


def _marked(old: Mark | None, reason: str, message: str, generation: int, now: float) -> Mark:
    if old is not None and (old.reason, old.message, old.generation) == (reason, message, generation):
        return old
    since = old.since if old is not None and old.reason == reason else now
    return Mark(reason, message, generation, since, now)


# --- what the node says to a resize


def refused(state: PodState, pod: Object, reason: str, message: str, generation: int, now: float) -> None:
    """Not granted: never (Infeasible) or not now, for any other reason."""
    shown = INFEASIBLE if reason == INFEASIBLE else DEFERRED
    old = state.resize.pending
    state.resize.pending = _marked(old, shown, message, generation, now)
    if old is None or (old.reason, old.generation) != (shown, generation):
        text = summary(f"Pod resize {reason}", pod, generation, message)
        state.emit(do.RecordEvent("Warning", f"Resize{shown}", text))


def granted(state: PodState, pod: Object, generation: int, now: float) -> None:
    """From now on the pod is to have what it asks for."""
    state.pod = pod
    state.resize.pending = None
    state.resize.progress = Mark("", "", generation, now, now)
    state.resize.retry_at = 0
    state.emit(do.RecordEvent("Normal", "ResizeStarted", summary("Pod resize started", pod, generation)))


def finished(state: PodState, error: str, now: float) -> None:
    """An attempt has ended; with an `error` there will be another."""
    resize = state.resize
    resize.under_way = False
    if not error:
        return
    resize.applied = None
    old = resize.progress
    generation = old.generation if old is not None else _generation(state.pod)
    resize.progress = _marked(old, "Error", error, generation, now)
    if old is None or (old.reason, old.message) != ("Error", error):
        text = summary("Pod resize error", state.pod, generation, error)
        state.emit(do.RecordEvent("Warning", "ResizeError", text))
    resize.retry_at = now + RETRY
    state.timer("resize", resize.retry_at)


def _generation(pod: Object) -> int:
    return int(pod["metadata"].get("generation") or 0)


def observed(state: PodState) -> None:
    """What a kubelet before this one made is as it should be, unless it was just resizing."""
    if state.resize.progress is None:
        state.resize.applied = fingerprint(state.pod)


def resumed(state: PodState, now: float) -> None:
    """A grant was kept, and nothing tells that all came of it."""
    if state.resize.progress is None:
        state.resize.progress = Mark("", "", _generation(state.pod), now, now)


# --- what is to be done


def resizable(pod: Object) -> Iterator[Object]:
    """Containers whose resources may change."""
    yield from init_containers(pod)
    yield from main_containers(pod)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a container; limits of CPU and memory fall back on the pod's."""

    requests: Mapping[str, Quantity] = field(default_factory=dict)
    limits: Mapping[str, Quantity] = field(default_factory=dict)

    @classmethod
    def of(cls, own: Mapping[str, Any] | None, pod: Mapping[str, Any] | None) -> Sizes:
        requests = amounts((own or {}).get("requests"))
        limits, outer = amounts((own or {}).get("limits")), amounts((pod or {}).get("limits"))
        return cls(
            {name: zero(requests, name) for name in ("cpu", "memory")},
            {name: zero(limits, name) if zero(limits, name).nanos else zero(outer, name) for name in ("cpu", "memory")},
        )

    def changed(self, other: Sizes) -> list[str]:
        """Which of cpu and memory differ."""
        return [
            name
            for name in ("cpu", "memory")
            if (self.requests[name], self.limits[name]) != (other.requests[name], other.limits[name])
        ]


def wanted_sizes(pod: Object, container: Object) -> Sizes:
    """What it is to have."""
    return Sizes.of(container.get("resources"), pod["spec"].get("resources"))


def changes(pod: Object, container: Object, record: Record) -> list[str]:
    """Which of cpu and memory the running container does not have as it should."""
    if record.resources is None:
        return []
    return wanted_sizes(pod, container).changed(Sizes.of(record.resources, record.pod_resources))


def needs_restart(pod: Object, container: Object, record: Record) -> bool:
    """Whether its resizePolicy has it restarted for what changed."""
    if not container.get("resizePolicy"):
        return False
    restarts = {
        entry["resourceName"] for entry in container["resizePolicy"] if entry["restartPolicy"] == "RestartContainer"
    }
    return any(name in restarts for name in changes(pod, container, record))


def running(state: PodState) -> Iterator[tuple[Object, Record]]:
    """Containers that run and may be resized."""
    records = {record.name: record for record in state.running()}
    for container in resizable(state.pod):
        if container["name"] in records:
            yield container, records[container["name"]]


def fingerprint(pod: Object) -> str:
    """What the pod's cgroup depends on."""
    containers = {one["name"]: one.get("resources") or {} for one in resizable(pod)}
    return json.dumps([containers, pod["spec"].get("resources")], sort_keys=True)


def resize(state: PodState, now: float) -> bool:
    """Ask for what is missing; returns whether starting containers must wait for it."""
    known = state.resize
    if known.under_way:
        return True
    due = known.applied != (wanted := fingerprint(state.pod))
    for container, record in running(state):
        if not changes(state.pod, container, record):
            continue
        if known.progress is None:  # granted by a kubelet that was killed before it could tell
            known.progress = Mark("", "", _generation(state.pod), now, now)
        if needs_restart(state.pod, container, record):
            return True  # once it has stopped, the pod's cgroup follows, then it starts again
        due = True
    if not due or now < known.retry_at:
        return False
    known.under_way = True
    known.applied = wanted
    state.emit(do.ResizePod())
    return True


def settle(state: PodState) -> None:
    """Tell that a resize is complete when nothing is left of it."""
    known = state.resize
    if known.progress is None or known.under_way:
        return
    if any(changes(state.pod, container, record) for container, record in running(state)):
        return
    if state.sandbox is not None and known.applied != fingerprint(state.pod):
        return  # the pod's own cgroup is still to follow
    text = summary("Pod resize completed", state.pod, known.progress.generation)
    known.progress = None
    state.emit(do.RecordEvent("Normal", "ResizeCompleted", text))


def same_resources(pod: Object, container: Object, record: Record) -> bool:
    """Whether a container that ended had what it would have now: else no back-off holds."""
    return record.resources is None or same(record.resources, container.get("resources"))
