"""Keeps what each pod is granted, on disk, and answers resizes: at once, or when room appears.

One small file a pod (root_dir/pods/UID/allocation.json), which goes with the pod. A grant is on disk before anything
comes of it. Resizes that must wait are tried again whenever any pod changes or goes, and every three minutes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tiphys.base.clock import Clock
from tiphys.base.files import write_atomic
from tiphys.kubelet import events as ev
from tiphys.kubelet.allocation import (
    INFEASIBLE,
    Allocation,
    Policies,
    Waiting,
    allocated,
    allocation_of,
    in_order,
    infeasible,
    uids,
)
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.labels import Record
from tiphys.kubelet.limit_metrics import LimitMetrics
from tiphys.kubelet.podspec import Object, full_name, generation_of, is_terminal, uid_of
from tiphys.kubelet.resizing import resumed
from tiphys.kubelet.tasks import Tasks
from tiphys.kubelet.worker import PodWorker

log = logging.getLogger(__name__)

RETRY = 180.0
FILE = "allocation.json"

Judge = Callable[[Object], tuple[str, str] | None]
"""Whether the node has room for the pod as it is wanted: (reason, message) why not."""


class Keeper(Protocol):
    """Told of what pods there are and what they are granted."""

    def note(self, pod: Object) -> None: ...

    def drop(self, uid: str) -> None: ...


class Allocations:
    """Of one node. `workers` are the pods that it has; `resized` is told of each that gets something else."""

    def __init__(
        self,
        config: KubeletConfig,
        clock: Clock,
        group: asyncio.TaskGroup,
        workers: Mapping[str, PodWorker],
        judge: Judge,
        resized: Callable[[PodWorker], None],
        keeper: Keeper,
        policies: Policies,
        metrics: LimitMetrics,
    ) -> None:
        self._config, self._clock, self._workers = config, clock, workers
        self._judge, self._resized, self._keeper, self._policies = judge, resized, keeper, policies
        self._metrics = metrics
        self._tasks = Tasks(group)
        self._granted: dict[str, Allocation] = {}
        self._open: set[str] = set()
        """Pods whose resize was granted and is not known to be complete."""
        self._desired: dict[str, Object] = {}
        """Pods that ask for something else than they have."""

    # --- what is granted

    def of(self, pod: Object) -> Object:
        """The pod with what it is granted."""
        granted = self._known(uid_of(pod))
        return pod if granted is None else allocated(pod, granted)

    def admit(self, pod: Object) -> None:
        """The node takes the pod with all that it asks for."""
        self._keep(uid_of(pod), allocation_of(pod))

    def take_up(self, pod: Object, records: Iterable[Record]) -> Object:
        """A pod that this kubelet sees for the first time; where it ran before and nothing else is known of it, it is
        granted what its containers have."""
        uid = uid_of(pod)
        if self._known(uid) is None:
            asked = allocation_of(pod)
            ran = {record.name: record.resources for record in records if record.resources is not None}
            if known := {name: own for name, own in ran.items() if name in asked.containers}:
                self._keep(uid, Allocation({**asked.containers, **known}, asked.pod))
        return self.changed(pod)

    def resume(self, worker: PodWorker) -> None:
        """Have a resize go on that a kubelet before this one did not complete."""
        if worker.uid in self._open:
            resumed(worker.state, self._clock.time())

    def forget(self, uid: str) -> None:
        """The pod is gone, its file with its directory."""
        self._granted.pop(uid, None)
        self._open.discard(uid)
        self._keeper.drop(uid)
        self._desired.pop(uid, None)
        self.retry()

    def _known(self, uid: str) -> Allocation | None:
        if uid not in self._granted and (found := _read(self._path(uid))) is not None:
            self._granted[uid], resizing = found
            self._open |= {uid} if resizing else set()
        return self._granted.get(uid)

    def _keep(self, uid: str, granted: Allocation, *, resizing: bool = False) -> None:
        path = self._path(uid)
        content = {"containers": granted.containers, "pod": granted.pod, "resizing": resizing}
        data = json.dumps(content).encode()
        self._config.pods_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o750, exist_ok=True)
        if resizing:
            write_atomic(path, data)
        else:  # a crash of the machine takes the containers along, and the pod is admitted anew
            draft = path.with_name(f".{path.name}")
            draft.write_bytes(data)
            draft.replace(path)
        self._granted[uid] = granted

    def _path(self, uid: str) -> Path:
        return self._config.pod_dir(uid) / FILE

    # --- resizes

    def changed(self, pod: Object) -> Object:
        """The pod changed in the API: what it is to be for its worker, which is told more once that is decided."""
        uid = uid_of(pod)
        now = self.of(pod)
        self._keeper.note(now)
        if now is pod or is_terminal(pod):
            self._desired.pop(uid, None)
        else:
            if uid in self._workers:
                self._metrics.note_request(self._desired.get(uid, now), pod)
            self._desired[uid] = pod
        return now

    def retry(self, changed: str = "") -> None:
        """Look at all that wait; `changed` is the UID of a pod that just changed."""
        worker = self._workers.get(changed)
        if worker is not None and changed not in self._desired:
            self._conclude(worker)
        if not self._desired:
            self._tasks.cancel("retry")
            return
        for uid in uids(in_order(self._waiting())):
            self._try(uid, "pod_updated" if uid == changed else "pods_removed" if not changed else "pod_resized")
        if self._desired:
            self._tasks.replace("retry", self._later())

    def _conclude(self, worker: PodWorker) -> None:
        """Of a pod that asks for what it is granted."""
        known = worker.state.resize
        if known.pending is not None:
            worker.post(ev.ResizeWithdrawn())
        if worker.uid in self._open and known.progress is None and not known.under_way:
            self._open.discard(worker.uid)
            self._keep(worker.uid, self._granted[worker.uid])

    async def _later(self) -> None:
        await self._clock.sleep(RETRY)
        self.retry()

    def _waiting(self) -> Iterable[Waiting]:
        for uid, pod in self._desired.items():
            if (worker := self._workers.get(uid)) is not None:
                yield Waiting(pod, self.of(pod), worker.state.resize.waiting_since())

    def _try(self, uid: str, trigger: str) -> None:
        pod, worker = self._desired[uid], self._workers[uid]
        refusal = self._refusal(pod)
        generation = generation_of(pod)
        if refusal is not None:
            pending = worker.state.resize.pending
            if refusal[0] == INFEASIBLE and (pending is None or pending.generation != generation):
                self._metrics.infeasible.inc(_detail(refusal[1]))
            worker.post(ev.ResizeRefused(pod, *refusal, generation))
            return
        try:
            self._keep(uid, allocation_of(pod), resizing=True)
        except OSError as error:
            log.warning("pod %s: its resize cannot be kept, trying again later: %s", full_name(pod), error)
            return
        if worker.state.resize.waiting_since():
            self._metrics.accepted.inc(trigger)
        del self._desired[uid]
        self._open.add(uid)
        self._keeper.note(pod)
        worker.post(ev.ResizeGranted(self.of(pod), generation))
        self._resized(worker)

    def _refusal(self, pod: Object) -> tuple[str, str] | None:
        if why := infeasible(pod, self.of(pod), self._policies):
            return INFEASIBLE, why
        return self._judge(pod)


def _detail(message: str) -> str:
    """Why a resize is infeasible, as metrics call it."""
    manager = next((name for name in ("cpu", "memory") if f"{name} manager policy" in message.lower()), "")
    return f"guaranteed_pod_{manager}_manager_static_policy" if manager else "swap_limitation"


def _read(path: Path) -> tuple[Allocation, bool] | None:
    """With whether it was being resized."""
    try:
        content = json.loads(path.read_bytes())
        return Allocation(dict(content["containers"]), content["pod"]), bool(content["resizing"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read, what the pod has now counts: %s", path, error)
        return None
