"""The shell around one pod's state machine: posts events to it and has its instructions carried out.

A worker belongs to one pod UID. Events are handled at once and in order; what takes time runs as a task and
posts its result. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from tiphys.base.clock import Clock
from tiphys.kubelet import events as ev
from tiphys.kubelet import instructions as do
from tiphys.kubelet.podspec import full_name, uid_of
from tiphys.kubelet.progress import Progress
from tiphys.kubelet.state import PodState
from tiphys.kubelet.tasks import Tasks
from tiphys.kubelet.volumes.waiting import VolumeWait

log = logging.getLogger(__name__)


class Hands:
    """What a worker can have done; `actions.Actions` does it for real. Methods may be coroutines' makers only."""

    async def ensure_volumes(self, worker: PodWorker) -> None:
        raise NotImplementedError

    async def create_sandbox(self, worker: PodWorker, attempt: int) -> None:
        raise NotImplementedError

    async def remove_sandbox(self, worker: PodWorker, id: str) -> None:
        raise NotImplementedError

    async def pull_image(self, worker: PodWorker, container: str) -> None:
        raise NotImplementedError

    async def start_container(self, worker: PodWorker, wanted: do.StartContainer) -> None:
        raise NotImplementedError

    async def run_hook(self, worker: PodWorker, id: str, container: str) -> None:
        raise NotImplementedError

    async def stop_container(self, worker: PodWorker, wanted: do.StopContainer) -> None:
        raise NotImplementedError

    async def remove_container(self, worker: PodWorker, id: str) -> None:
        raise NotImplementedError

    async def resize_pod(self, worker: PodWorker) -> None:
        raise NotImplementedError

    async def probe(self, worker: PodWorker, wanted: do.StartProbes) -> None:
        raise NotImplementedError

    async def delete_pod(self, worker: PodWorker) -> None:
        raise NotImplementedError

    async def clean_up(self, worker: PodWorker, logs: bool) -> None:
        raise NotImplementedError

    def save_status(self, worker: PodWorker, status: Mapping[str, Any], version: int) -> None:
        raise NotImplementedError

    def record_event(self, worker: PodWorker, wanted: do.RecordEvent) -> None:
        raise NotImplementedError


class PodWorker:
    """Runs one pod."""

    def __init__(
        self,
        state: PodState,
        hands: Hands,
        clock: Clock,
        group: asyncio.TaskGroup,
        finished: Callable[[PodWorker], None],
    ) -> None:
        self.state = state
        self.uid = uid_of(state.pod)
        self.pull_backoffs: dict[str, Any] = {}
        self.volume_wait = VolumeWait()
        self.listeners: set[Callable[[], None]] = set()
        """Called after each event: whoever follows a log waits for its container's end."""
        self.timed: Callable[[ev.Event, float], None] = lambda event, seconds: None
        """Told how long each event took to be worked out."""
        self.seconds_pulling = 0.0
        self._hands = hands
        self._clock = clock
        self._finished = finished
        self._tasks = Tasks(group)
        self._inbox: deque[ev.Event] = deque()
        self._draining = False
        self.stopped = False

    @property
    def volumes_ready(self) -> bool:
        return self.state.volumes is Progress.DONE

    def owns(self, sandbox: str) -> bool:
        """Whether a sandbox is this pod's present one."""
        return self.state.sandbox is not None and self.state.sandbox.id == sandbox

    def post(self, event: ev.Event) -> None:
        """Handle `event`, now or, from within the handling of another, right after it."""
        self._inbox.append(event)
        if self._draining or self.stopped:
            return
        self._draining = True
        try:
            while self._inbox and not self.stopped:
                self._handle(self._inbox.popleft())
        finally:
            self._draining = False

    def _handle(self, event: ev.Event) -> None:
        began = self._clock.monotonic()
        try:
            wanted = self.state.handle(event, self._clock.time())
        except Exception:  # one pod's trouble must not end the kubelet; InvalidTransition tells its story
            log.exception("pod %s: an event was ignored", full_name(self.state.pod))
            return
        for instruction in wanted:
            self._carry_out(instruction)
        self.timed(event, self._clock.monotonic() - began)
        for listener in tuple(self.listeners):
            listener()

    def stop(self) -> None:
        """Let go of the pod: tasks end, containers go on."""
        self.stopped = True
        self._tasks.cancel_all()

    def _spawn(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.replace(key, self._guard(work), name=f"{key} of {full_name(self.state.pod)}")
        task.add_done_callback(lambda _: work.close())  # a task that is cancelled at once never began it

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("pod %s: work failed", full_name(self.state.pod))

    def _carry_out(self, wanted: do.Instruction) -> None:
        hands = self._hands
        match wanted:
            case do.EnsureVolumes():
                self._spawn("volumes", hands.ensure_volumes(self))
            case do.CreateSandbox(attempt):
                self._spawn("sandbox", hands.create_sandbox(self, attempt))
            case do.RemoveSandbox(id):
                self._spawn(f"remove {id}", hands.remove_sandbox(self, id))
            case do.PullImage(container):
                self._spawn("start", hands.pull_image(self, container))
            case do.StartContainer():
                self._spawn("start", hands.start_container(self, wanted))
            case do.CancelStart():
                self._tasks.cancel("start")
            case do.ResizePod():
                self._spawn("resize", hands.resize_pod(self))
            case do.RunHook(id, container):
                self._spawn("start", hands.run_hook(self, id, container))
            case do.StopContainer(id):
                self._spawn(f"stop {id}", hands.stop_container(self, wanted))
            case do.RemoveContainer(id):
                self._spawn(f"remove {id}", hands.remove_container(self, id))
            case do.StartProbes(id):
                self._spawn(f"probe {id}", hands.probe(self, wanted))
            case do.StopProbes(id):
                self._tasks.cancel(f"probe {id}")
            case _:
                self._carry_out_at_once(wanted)

    def _carry_out_at_once(self, wanted: do.Instruction) -> None:
        match wanted:
            case do.SaveStatus(status, version):
                self._hands.save_status(self, status, version)
            case do.RecordEvent():
                self._hands.record_event(self, wanted)
            case do.SetTimer(name, at):
                self._spawn(f"timer {name}", self._wake(name, at))
            case do.DeletePod():
                self._spawn("delete", self._hands.delete_pod(self))
            case do.CleanUp(logs):
                self._spawn("clean up", self._hands.clean_up(self, logs))
            case do.Finish():
                self.stop()
                self._finished(self)

    async def _wake(self, name: str, at: float) -> None:
        while (left := at - self._clock.time()) > 0:  # loops wake a little early, and too early is never
            await self._clock.sleep(left)
        self.post(ev.TimerFired(name))
