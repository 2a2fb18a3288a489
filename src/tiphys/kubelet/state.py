"""A pod's life on this node as a state machine: events in, instructions out, no I/O and no clock. Pure.

    state = PodState(pod, host_ips=("10.0.0.1",))
    for instruction in state.handle(Observed(sandboxes, containers), now): ...

Level-triggered: after each event `decide.py` works out afresh what is missing, from the spec, what the runtime
has and what is under way. Nothing that correctness needs lives here only: restart counts and back-off are in
labels of containers, the rest in the pod's status, so a kubelet that was killed goes on where it was.

Starting a container is the one sequence, a table below; an answer that fits no step raises InvalidTransition,
which tells the last things that happened to the pod.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.errors import TiphysError
from tiphys.kubelet import backoff, decide, resizing
from tiphys.kubelet import events as ev
from tiphys.kubelet import instructions as do
from tiphys.kubelet.container_status import Waiting
from tiphys.kubelet.labels import Record, SandboxRecord
from tiphys.kubelet.plan import View, by_name
from tiphys.kubelet.podspec import Object, all_containers, find_container, full_name, grace_seconds, is_deleted
from tiphys.kubelet.progress import Failure, Progress, Starting, Step

HISTORY = 50


class InvalidTransition(TiphysError):
    """Something happened that cannot have; the message has the pod's recent history."""


STEPS: Mapping[tuple[Step, type[ev.Event]], Step | None] = {
    (Step.PULL, ev.ImageReady): Step.START,
    (Step.PULL, ev.StartFailed): None,
    (Step.START, ev.ContainerStarted): Step.HOOK,
    (Step.START, ev.StartFailed): None,
    (Step.HOOK, ev.HookFinished): None,
}
"""(step, answer) -> the next step; None: done. Anything else is impossible."""


@dataclass(slots=True)
class PodState:
    """The machine of one pod (one UID)."""

    pod: Object
    host_ips: Sequence[str] = ()
    observed: bool = False
    removed: bool = False
    """The object is gone from the API."""
    rejection: tuple[str, str] | None = None
    verdict: tuple[str, str] | None = None
    """(reason, message) once the pod is failed by the kubelet."""
    disrupted: str = ""
    """The message of the DisruptionTarget condition that tells of its end by the kubelet."""
    grace_limit: float | None = None
    """Seconds that the kubelet grants at most when it ends the pod itself."""
    volumes: Progress = Progress.NEEDED
    sandbox: SandboxRecord | None = None
    attempt: int = -1
    """Of the newest sandbox that was ever asked for."""
    creating_sandbox: bool = False
    lost_sandbox: str = ""
    """ID of the sandbox whose end was told of."""
    sandbox_retry_at: float = 0
    old_sandboxes: set[str] = field(default_factory=set)
    records: dict[str, Record] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], bool] = field(default_factory=dict)
    starting: Starting | None = None
    failures: dict[str, Failure] = field(default_factory=dict)
    stopping: dict[str, float] = field(default_factory=dict)
    """Container ID -> the moment by which it is killed."""
    killed: set[str] = field(default_factory=set)
    """IDs of containers that were killed to be started again."""
    max_backoff: float = backoff.LIMIT
    """Seconds: crashLoopBackOff.maxContainerRestartPeriod."""
    removing: set[str] = field(default_factory=set)
    probing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    resize: resizing.Resize = field(default_factory=resizing.Resize)
    complete: bool = False
    grace_until: float = 0
    """When the pod's end began plus its grace: by then everything is killed."""
    cleanup: Progress = Progress.NEEDED
    logs_dropped: bool = False
    deleting: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    saved: int = 0
    timers: dict[str, float] = field(default_factory=dict)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _out: list[do.Instruction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.status = self.pod.get("status") or {}
        self.resize = resizing.recalled(self.status)

    def handle(self, event: ev.Event, now: float) -> list[do.Instruction]:
        """What is to be done after `event`; `now` is in seconds since the epoch."""
        self.history.append(f"{now:.3f} {event!r:.300}")
        _HANDLERS[type(event)](self, event, now)
        decide.decide(self, now)
        out, self._out = self._out, []
        return out

    def emit(self, instruction: do.Instruction) -> None:
        self._out.append(instruction)
        if not isinstance(instruction, do.SaveStatus):
            self.history.append(f"  -> {instruction!r:.300}")

    def timer(self, name: str, at: float) -> None:
        """Ask to be woken, unless that is arranged already."""
        if self.timers.get(name) != at:
            self.timers[name] = at
            self.emit(do.SetTimer(name, at))

    def view(self) -> View:
        sandbox = self.sandbox.id if self.sandbox is not None and self.sandbox.running else ""
        return View(self.pod, by_name(self.records.values()), self.verdicts, sandbox, self.killed)

    def running(self) -> list[Record]:
        return [record for record in self.records.values() if record.running]

    def fail(self, why: str) -> None:
        """Raise InvalidTransition with the pod's history."""
        story = "\n".join(self.history)
        raise InvalidTransition(f"pod {full_name(self.pod)}: {why}; what happened:\n{story}")

    def advance(self, event: ev.Event, container: str) -> Step | None:
        """Take the next step of starting `container`."""
        current = self.starting
        if current is None or current.container != container:
            self.fail(f"{type(event).__name__} for {container!r}, which is not being started")
            return None
        key = (current.step, type(event))
        if key not in STEPS:
            self.fail(f"{type(event).__name__} while {container!r} is at step {current.step}")
        return STEPS[key]


def _pod_changed(state: PodState, event: ev.PodChanged, now: float) -> None:
    before = {container["name"]: container.get("image") for container in all_containers(state.pod)}
    state.pod = event.pod
    for container in all_containers(event.pod):
        if before.get(container["name"]) != container.get("image"):
            state.failures.pop(container["name"], None)  # a new image is tried at once


def _pod_removed(state: PodState, event: ev.PodRemoved, now: float) -> None:
    state.pod = event.last
    state.removed = True


def _rejected(state: PodState, event: ev.Rejected, now: float) -> None:
    state.rejection = (event.reason, event.message)
    state.emit(do.RecordEvent("Warning", event.reason, event.message))


def _evicted(state: PodState, event: ev.Evicted, now: float) -> None:
    if state.verdict is None:
        state.verdict = (event.reason, event.message)
        state.disrupted = (event.told or event.message) if event.disruption else ""
    state.grace_limit = event.grace if state.grace_limit is None else min(state.grace_limit, event.grace)


def _resize_granted(state: PodState, event: ev.ResizeGranted, now: float) -> None:
    resizing.granted(state, event.pod, event.generation, now)


def _resize_refused(state: PodState, event: ev.ResizeRefused, now: float) -> None:
    resizing.refused(state, event.pod, event.reason, event.message, event.generation, now)


def _resize_withdrawn(state: PodState, event: ev.ResizeWithdrawn, now: float) -> None:
    state.resize.pending = None


def _resize_finished(state: PodState, event: ev.ResizeFinished, now: float) -> None:
    resizing.finished(state, event.error, now)


def _room_wanted(state: PodState, event: ev.RoomWanted, now: float) -> None:
    decide.forget_dead(state)


def _observed(state: PodState, event: ev.Observed, now: float) -> None:
    """Take over what runs; of several sandboxes the newest counts."""
    resizing.observed(state)
    state.observed = True
    for sandbox in sorted(event.sandboxes, key=lambda one: one.attempt):
        if state.sandbox is not None:
            state.old_sandboxes.add(state.sandbox.id)
        state.sandbox = sandbox
        state.attempt = sandbox.attempt
    for record in event.containers:
        state.records[record.id] = record
        _assume_probed(state, record)


def _assume_probed(state: PodState, record: Record) -> None:
    """What the API's status says about probes of this very container holds until a probe says otherwise."""
    container = find_container(state.pod, record.name)
    if container is None or not record.running:
        return
    for kind in ("containerStatuses", "initContainerStatuses"):
        for entry in state.status.get(kind) or ():
            if entry.get("containerID") != record.full_id:
                continue
            if entry.get("started") and container.get("startupProbe"):
                state.verdicts[record.id, "startup"] = True
            if entry.get("ready") and container.get("readinessProbe"):
                state.verdicts[record.id, "readiness"] = True


def _volumes_ready(state: PodState, event: ev.VolumesReady, now: float) -> None:
    state.volumes = Progress.DONE


def _volumes_failed(state: PodState, event: ev.VolumesFailed, now: float) -> None:
    for message in event.messages:
        state.emit(do.RecordEvent("Warning", "FailedMount", message))
    state.timer("volumes", event.retry_at)


def _sandbox_changed(state: PodState, event: ev.SandboxChanged, now: float) -> None:
    known = state.sandbox
    if known is not None and event.sandbox.attempt < known.attempt:
        return
    if known is not None and known.id == event.sandbox.id and not known.running:
        return  # a dead sandbox stays dead: this was read before it died
    state.creating_sandbox = state.creating_sandbox and not event.sandbox.running
    state.sandbox = event.sandbox


def _sandbox_failed(state: PodState, event: ev.SandboxFailed, now: float) -> None:
    state.creating_sandbox = False
    state.sandbox_retry_at = now + decide.RETRY
    state.timer("sandbox", state.sandbox_retry_at)
    if is_deleted(state.pod):
        return  # what is going away may fail
    usual = ("FailedCreatePodSandBox", f"Failed to create pod sandbox: {event.message}")
    state.emit(do.RecordEvent("Warning", *(event.event or usual)))


def _sandbox_removed(state: PodState, event: ev.SandboxRemoved, now: float) -> None:
    state.old_sandboxes.discard(event.id)
    state.removing.discard(event.id)
    if state.sandbox is not None and state.sandbox.id == event.id:
        state.sandbox = None


def _image_ready(state: PodState, event: ev.ImageReady, now: float) -> None:
    step = state.advance(event, event.container)
    state.starting = Starting(event.container, step) if step is not None else None
    decide.start_container(state, event.container, event.image)


def _container_started(state: PodState, event: ev.ContainerStarted, now: float) -> None:
    record = event.record
    step = state.advance(event, record.name)
    _note(state, record)
    state.failures.pop(record.name, None)
    container = find_container(state.pod, record.name) or {}
    hook = (container.get("lifecycle") or {}).get("postStart")
    if step is not None and hook and state.records[record.id].running:
        state.starting = Starting(record.name, step, record.id)
        state.emit(do.RunHook(record.id, record.name))
    else:
        state.starting = None


def _container_changed(state: PodState, event: ev.ContainerChanged, now: float) -> None:
    _note(state, event.record)
    if event.record.exited and event.record.id in state.stopping:
        del state.stopping[event.record.id]


_RANK = {"created": 0, "running": 1, "unknown": 2, "exited": 3}


def _note(state: PodState, record: Record) -> None:
    """Keep the newer of two observations: containers never go back."""
    known = state.records.get(record.id)
    if known is None or _RANK[known.state] <= _RANK[record.state]:
        state.records[record.id] = record


def _container_removed(state: PodState, event: ev.ContainerRemoved, now: float) -> None:
    state.removing.discard(event.id)
    state.records.pop(event.id, None)
    state.killed.discard(event.id)
    for key in [key for key in state.verdicts if key[0] == event.id]:
        del state.verdicts[key]


def _start_failed(state: PodState, event: ev.StartFailed, now: float) -> None:
    state.advance(event, event.container)
    state.starting = None
    retry_at = event.retry_at or now + decide.RETRY
    state.failures[event.container] = Failure(Waiting(event.reason, event.message), retry_at, now, event.image)
    state.emit(do.RecordEvent("Warning", "Failed", f"Error: {_shown(event)}", event.container))


def _shown(event: ev.StartFailed) -> str:
    """Image errors are known by their reason, others by what went wrong."""
    if event.reason in decide.IMAGE_ERRORS:
        return event.reason
    return event.message or event.reason


def _hook_finished(state: PodState, event: ev.HookFinished, now: float) -> None:
    state.advance(event, event.container)
    state.starting = None
    if event.error:
        state.failures[event.container] = Failure(Waiting("PostStartHookError", event.error), now)
        state.emit(do.RecordEvent("Warning", "FailedPostStartHook", "PostStartHook failed", event.container))
        decide.stop(state, event.id, event.container, "FailedPostStartHook", grace_seconds(state.pod), now)


def _probed(state: PodState, event: ev.Probed, now: float) -> None:
    if event.id in state.records:
        state.verdicts[event.id, event.kind] = event.healthy


def _stop_finished(state: PodState, event: ev.StopFinished, now: float) -> None:
    state.stopping.pop(event.id, None)
    if event.error:
        state.emit(do.RecordEvent("Warning", "FailedKillPod", f"error killing pod: {event.error}"))
        state.timer("stop", now + decide.RETRY)


def _timer_fired(state: PodState, event: ev.TimerFired, now: float) -> None:
    state.timers.pop(event.name, None)
    if event.name == "volumes":
        state.volumes = Progress.NEEDED


def _sources_changed(state: PodState, event: ev.SourcesChanged, now: float) -> None:
    """An object that the pod refers to changed: what failed for want of it may be tried at once."""
    if state.timers.pop("volumes", None) is not None:
        state.volumes = Progress.NEEDED
    _retry_configuration(state, now)


def _retry_configuration(state: PodState, now: float) -> None:
    for container in all_containers(state.pod):
        failure = state.failures.get(container["name"])
        if failure is not None and failure.waiting.reason == "CreateContainerConfigError":
            state.failures[container["name"]] = Failure(failure.waiting, now)


def _status_saved(state: PodState, event: ev.StatusSaved, now: float) -> None:
    state.saved = max(state.saved, event.version)


def _cleaned_up(state: PodState, event: ev.CleanedUp, now: float) -> None:
    state.cleanup = Progress.DONE


_HANDLERS: Mapping[type[ev.Event], Callable[[PodState, Any, float], None]] = {
    ev.PodChanged: _pod_changed,
    ev.PodRemoved: _pod_removed,
    ev.Rejected: _rejected,
    ev.Evicted: _evicted,
    ev.RoomWanted: _room_wanted,
    ev.ResizeGranted: _resize_granted,
    ev.ResizeRefused: _resize_refused,
    ev.ResizeWithdrawn: _resize_withdrawn,
    ev.ResizeFinished: _resize_finished,
    ev.Observed: _observed,
    ev.VolumesReady: _volumes_ready,
    ev.VolumesFailed: _volumes_failed,
    ev.SandboxChanged: _sandbox_changed,
    ev.SandboxFailed: _sandbox_failed,
    ev.SandboxRemoved: _sandbox_removed,
    ev.ImageReady: _image_ready,
    ev.ContainerStarted: _container_started,
    ev.ContainerChanged: _container_changed,
    ev.ContainerRemoved: _container_removed,
    ev.StartFailed: _start_failed,
    ev.HookFinished: _hook_finished,
    ev.Probed: _probed,
    ev.StopFinished: _stop_finished,
    ev.TimerFired: _timer_fired,
    ev.SourcesChanged: _sources_changed,
    ev.StatusSaved: _status_saved,
    ev.CleanedUp: _cleaned_up,
}
