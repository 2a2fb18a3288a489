"""What the lives of pods add to the kubelet's metrics: looked at after each event of a worker, never decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import Clock, parse_rfc3339
from tiphys.kubelet import events as ev
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, all_containers, phase_of, status_of
from tiphys.kubelet.probes.counted import forget
from tiphys.kubelet.worker import PodWorker

TYPES = {
    "containers": "container",
    "initContainers": "init_container",
    "ephemeralContainers": "ephemeral_container",
}


class PodMetrics:
    """Counts what happens to one pod."""

    def __init__(self, worker: PodWorker, metrics: KubeletMetrics, clock: Clock) -> None:
        self._worker, self._metrics, self._clock = worker, metrics, clock
        self._seen_at = clock.time()
        self._fresh = phase_of(worker.state.pod) == "Pending"
        self._started: set[str] | None = None
        self._ended: set[str] = set()
        metrics.containers_per_pod.observe(len(list(all_containers(worker.state.pod))))
        worker.timed = self.timed
        worker.listeners.add(self.look)

    def timed(self, event: ev.Event, seconds: float) -> None:
        """How long one event took to be worked out."""
        if isinstance(event, ev.Observed):
            kind = "create"
            if self._started is None:
                self._metrics.pod_worker_start.observe(max(0.0, self._clock.time() - self._seen_at))
        elif isinstance(event, ev.PodChanged):
            kind = "update"
        else:
            kind = "terminated" if isinstance(event, ev.PodRemoved) else "sync"
        self._metrics.pod_worker.observe(seconds, kind)

    def look(self) -> None:
        """Compare with what was seen last."""
        state = self._worker.state
        if not state.observed:
            return
        first = self._started is None
        known = self._started = self._started or set()
        for id, record in state.records.items():
            if id not in known and record.started_at:
                known.add(id)
                if not first:
                    self._metrics.started_containers.inc(container_type(state.pod, record.name))
            if id not in self._ended and record.exited:
                self._ended.add(id)
                if not first:
                    self._end(record.name, record.exit_code)
        if self._fresh and all_started(state.pod, state.status):
            self._fresh = False
            self._observe_start(state.pod, state.status)
        if self._worker.stopped or state.deleting:
            forget(self._metrics, state.pod)

    def _end(self, name: str, code: int) -> None:
        shown = status_of(self._worker.state.status, name) or {}
        ended = (shown.get("state") or {}).get("terminated") or (shown.get("lastState") or {}).get("terminated") or {}
        reason = str(ended.get("reason") or ("Completed" if code == 0 else "Error"))
        self._metrics.terminated_containers.inc(container_type(self._worker.state.pod, name), str(code), reason)

    def _observe_start(self, pod: Object, status: Mapping[str, Any]) -> None:
        now = self._clock.time()
        self._metrics.pod_start.observe(max(0.0, now - self._seen_at))
        created = pod["metadata"].get("creationTimestamp")
        if created:
            total = max(0.0, now - parse_rfc3339(created))
            self._metrics.pod_start_total.observe(total)
            waited = self._worker.seconds_pulling + init_seconds(status)
            self._metrics.pod_start_sli.observe(max(0.0, total - waited))


def container_type(pod: Object, name: str) -> str:
    """As the label of metrics has it."""
    for field, kind in TYPES.items():
        if any(one["name"] == name for one in pod["spec"].get(field) or ()):
            return kind
    return "container"


def all_started(pod: Object, status: Mapping[str, Any]) -> bool:
    """Whether each container runs or has run."""
    shown = status.get("containerStatuses") or ()
    started = [one for one in shown if not (one.get("state") or {}).get("waiting")]
    return bool(shown) and len(started) == len(pod["spec"]["containers"])


def init_seconds(status: Mapping[str, Any]) -> float:
    """How long init containers ran that have ended."""
    total = 0.0
    for one in status.get("initContainerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("startedAt") and ended.get("finishedAt"):
            total += parse_rfc3339(ended["finishedAt"]) - parse_rfc3339(ended["startedAt"])
    return max(0.0, total)
