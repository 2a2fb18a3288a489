"""What a pod's state machine wants next, given all that state.py knows: the level-triggered half. Pure.

Two ways through it: a pod that is to run, and a pod that is to end (deleted, over, past its deadline, refused
or gone from the API). Each call adds whatever instruction is missing and not yet under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.base.clock import parse_rfc3339
from tiphys.kubelet import instructions as do
from tiphys.kubelet import resizing, restart_all
from tiphys.kubelet.backoff import next_backoff, restart_delay, waits_after_kill
from tiphys.kubelet.container_status import Waiting
from tiphys.kubelet.handover import is_ending, save_status
from tiphys.kubelet.labels import Record, container_hash
from tiphys.kubelet.plan import Plan, make_plan, stops_after
from tiphys.kubelet.podspec import (
    find_container,
    full_name,
    grace_seconds,
    init_containers,
    is_deleted,
    main_containers,
    restart_policy,
    should_restart,
    status_of,
)
from tiphys.kubelet.progress import Failure, Progress, Starting, Step
from tiphys.runtime.types import State

if TYPE_CHECKING:
    from tiphys.kubelet.state import PodState

RETRY = 10.0
"""Seconds between tries of what failed for no reason that tells a better time."""
MIN_GRACE = 2.0
"""Seconds that every container gets between its stop signal and SIGKILL."""
IMAGE_ERRORS = ("ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "ImagePullBackOff")
PULL_ERROR_SHOWN = 3.0
"""Seconds that ErrImagePull is shown before ImagePullBackOff takes its place."""
REPLACING = 1.0
"""Seconds that a container may take to be replaced before its pod's status tells of it."""
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
KEPT_RECORDS = 2
"""The present container and the one before it, for lastState."""


def decide(state: PodState, now: float) -> None:
    """Emit what is missing."""
    if not state.observed:
        return
    _check_deadline(state, now)
    if not is_ending(state):
        _run(state, now)
    if is_ending(state):
        _end(state, now)
    elif not _is_replacing(state, now):
        save_status(state, now)


def _is_replacing(state: PodState, now: float) -> bool:
    """Whether a container that the kubelet ended itself is just being started anew: its status tells of the new one,
    for nobody gains by a pod that is not ready for the blink of an eye. What takes longer is told."""
    name = state.starting.container if state.starting is not None else ""
    records = state.view().records.get(name) or []
    if not records or not records[0].exited or records[0].id not in state.killed:
        return False
    until = records[0].finished_at + REPLACING
    if now >= until:
        return False
    state.timer("replacing", until)
    return True


def _check_deadline(state: PodState, now: float) -> None:
    limit = state.pod["spec"].get("activeDeadlineSeconds")
    started = state.status.get("startTime")
    if limit is None or not started or is_ending(state):
        return
    at = parse_rfc3339(started) + float(limit)
    if now < at:
        state.timer("deadline", at)
    else:
        state.verdict = DEADLINE
        state.emit(do.RecordEvent("Normal", *DEADLINE))


# --- a pod that is to run


def _run(state: PodState, now: float) -> None:
    if state.volumes is Progress.NEEDED:
        state.volumes = Progress.UNDER_WAY
        state.emit(do.EnsureVolumes())
    resizing.settle(state)
    if _reset(state, now):
        return
    if state.sandbox is None or not state.sandbox.running:
        _renew_sandbox(state, now)
        return
    plan = make_plan(state.view())
    for kill in plan.kill:
        stop(state, kill.id, kill.container, kill.message, kill.grace, now)
        if kill.restart:
            state.killed.add(kill.id)
    state.complete = plan.complete
    if not plan.complete:
        if not resizing.resize(state, now):
            _start_next(state, plan, now)
        _probe_running(state)
        _prune(state)


def _reset(state: PodState, now: float) -> bool:
    """Where the whole pod is to be restarted in place: kill and remove the next container; whether one is left."""
    records = state.view().records
    if not restart_all.is_restarting(state.pod, records, state.status):
        return False
    _cancel_start(state)
    left = restart_all.left_to_reset(state.pod, records)
    for container in (*init_containers(state.pod), *main_containers(state.pod)):
        state.failures.pop(container["name"], None)
    if state.starting is not None or not left:
        return state.starting is not None
    if left[0].running:
        stop(state, left[0].id, left[0].name, restart_all.KILL_MESSAGE, 0, now)
    else:
        _remove(state, left[0])
    return True


def _renew_sandbox(state: PodState, now: float) -> None:
    """Create the sandbox; if there was one, first stop what is left of it."""
    if state.creating_sandbox:
        return
    _tell_of_lost_sandbox(state)
    if state.running():
        running, grace = state.running(), grace_seconds(state.pod)
        for record in running:
            text = f"Stopping container {record.name}"
            stop(state, record.id, record.name, text, grace, now, stops_after(state.pod, record, running))
        return
    if _nothing_left(state):
        state.complete = True
        return
    if state.starting is not None:
        _cancel_start(state)
    if state.volumes is Progress.DONE and now >= state.sandbox_retry_at and state.starting is None:
        if state.sandbox is not None:
            state.old_sandboxes.add(state.sandbox.id)
        state.attempt += 1
        state.creating_sandbox = True
        state.resize.applied = resizing.fingerprint(state.pod)
        state.emit(do.CreateSandbox(state.attempt))


def _tell_of_lost_sandbox(state: PodState) -> None:
    if state.sandbox is None or state.lost_sandbox == state.sandbox.id or _nothing_left(state):
        return
    state.lost_sandbox = state.sandbox.id
    message = "Pod sandbox changed, it will be killed and re-created."
    state.emit(do.RecordEvent("Normal", "SandboxChanged", message))


def _nothing_left(state: PodState) -> bool:
    """Without a sandbox: whether the pod has done its work, so that none is needed."""
    view = state.view()
    if not state.records:
        return False
    if state.pod["spec"].get("restartPolicy") == "Never" and all(
        restart_policy(state.pod, container) == "Never" for container in main_containers(state.pod)
    ):
        return True
    ends = [(container, view.latest(container)) for container in main_containers(state.pod)]
    return all(
        record is not None and record.exited and not should_restart(state.pod, container, record.exit_code)
        for container, record in ends
    )


def _start_next(state: PodState, plan: Plan, now: float) -> None:
    """Take up the first container that may start now; note why the others wait."""
    for name in plan.start:
        if _waits(state, name, now) or state.starting is not None or state.volumes is not Progress.DONE:
            continue
        state.starting = Starting(name, Step.PULL)
        state.emit(do.PullImage(name))


def _waits(state: PodState, name: str, now: float) -> bool:
    """Whether it is too early to start the container (again)."""
    if state.starting is not None and state.starting.container == name:
        return True
    records = state.view().records.get(name) or []
    if records and records[0].exited and _put_off(state, records, now):
        return True
    failure = state.failures.get(name)
    if failure is None or now >= failure.retry_at:
        return False
    _show_pull_backoff(state, name, failure, now)
    state.timer(f"start {name}", failure.retry_at)
    return True


def _put_off(state: PodState, records: list[Record], now: float) -> bool:
    if records[0].id in state.killed and not waits_after_kill(records[0], _run_before(records), now):
        return False
    return _backs_off(state, records[0], now)


def _run_before(records: list[Record]) -> Record | None:
    return next((record for record in records[1:] if record.exited), None)


def _backs_off(state: PodState, ended: Record, now: float) -> bool:
    delay = restart_delay(ended)
    until = ended.finished_at + delay
    if now >= until or not _is_alike(state, ended):
        return False
    why = f"back-off {duration(delay)} restarting failed container={ended.name} pod={full_name(state.pod)}"
    known = state.failures.get(ended.name)
    if known is None or known.waiting.reason != "CrashLoopBackOff":
        text = f"Back-off restarting failed container {ended.name} in pod {full_name(state.pod)}"
        state.emit(do.RecordEvent("Warning", "BackOff", text, ended.name))
    state.failures[ended.name] = Failure(Waiting("CrashLoopBackOff", why), until, now)
    state.timer(f"start {ended.name}", until)
    return True


def _is_alike(state: PodState, ended: Record) -> bool:
    """Whether it ran what is to run now: another image or other resources deserve a new series of tries."""
    container = find_container(state.pod, ended.name) or {}
    return ended.hash == container_hash(container) and resizing.same_resources(state.pod, container, ended)


def duration(seconds: float) -> str:
    """Seconds as Go prints a duration: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _show_pull_backoff(state: PodState, name: str, failure: Failure, now: float) -> None:
    """A failed pull shows as ErrImagePull for a moment, then as ImagePullBackOff until the next try."""
    if failure.waiting.reason != "ErrImagePull":
        return
    shown_until = failure.at + PULL_ERROR_SHOWN
    if now < shown_until:
        state.timer(f"backoff {name}", shown_until)
        return
    text = f'Back-off pulling image "{failure.image}"'
    waiting = Waiting("ImagePullBackOff", f"{text}: ErrImagePull: {failure.waiting.message}")
    state.failures[name] = Failure(waiting, failure.retry_at, failure.at, failure.image)
    state.emit(do.RecordEvent("Normal", "BackOff", text, name))
    state.emit(do.RecordEvent("Warning", "Failed", "Error: ImagePullBackOff", name))


def start_container(state: PodState, name: str, image: str) -> None:
    """The image is there: create and start, as the next attempt."""
    records = state.view().records.get(name) or []
    latest = records[0] if records else None
    if latest is None:
        attempt = _known_restarts(state, name)
    else:
        attempt = latest.attempt if latest.state is State.CREATED else latest.attempt + 1
    previous = next((record for record in records if record.exited), None)
    if previous is not None and previous.id in state.killed and _run_before(records) is None:
        previous = None
    if previous is not None and not _is_alike(state, previous):
        previous = None
    state.emit(do.StartContainer(name, attempt, image, next_backoff(previous, state.max_backoff)))


def _known_restarts(state: PodState, name: str) -> int:
    """The attempt to begin with: the runtime may have lost what the status still tells of."""
    known = status_of(state.status, name)
    if known is None:
        return 0
    ended = (known.get("lastState") or {}).get("terminated")
    if ended is not None and not ended.get("containerID") and "waiting" in known["state"]:
        return int(known["restartCount"])  # nobody saw that run end, so the count is ahead of it already
    return int(known.get("restartCount") or 0) + 1 if known.get("containerID") or ended else 0


def _probe_running(state: PodState) -> None:
    """Probes run for what runs, has had its postStart hook and is not being stopped."""
    hooking = state.starting.container if state.starting and state.starting.step is not Step.PULL else ""
    for record in state.running():
        if record.name == hooking or record.id in state.stopping or record.id in state.probing:
            continue
        container = find_container(state.pod, record.name) or {}
        kinds = tuple(kind for kind in ("startup", "liveness", "readiness") if container.get(f"{kind}Probe"))
        if state.verdicts.get((record.id, "startup")):
            kinds = tuple(kind for kind in kinds if kind != "startup")
        _set_probes(state, record, kinds)
    _stop_probes(state)


def _set_probes(state: PodState, record: Record, kinds: tuple[str, ...]) -> None:
    if kinds and state.probing.get(record.id) != kinds:
        state.probing[record.id] = kinds
        state.emit(do.StartProbes(record.id, record.name, record.started_at, kinds))


def _stop_probes(state: PodState) -> None:
    for id in [id for id in state.probing if id not in state.records or not state.records[id].running]:
        del state.probing[id]
        state.emit(do.StopProbes(id))


def _prune(state: PodState) -> None:
    """Remove containers that nobody asks about any more, and sandboxes that were replaced."""
    for records in state.view().records.values():
        for record in records[KEPT_RECORDS:]:
            _remove(state, record)
    for id in state.old_sandboxes - state.removing:
        state.removing.add(id)
        state.emit(do.RemoveSandbox(id))


def forget_dead(state: PodState) -> None:
    """Remove dead containers but the newest of each name; the status keeps what it tells of them."""
    for records in state.view().records.values():
        for record in records[1:]:
            if record.exited:
                _remove(state, record)


def _remove(state: PodState, record: Record) -> None:
    if record.id not in state.removing:
        state.removing.add(record.id)
        state.emit(do.RemoveContainer(record.id))


def stop(
    state: PodState, id: str, name: str, message: str, grace: float, now: float, after: tuple[str, ...] = ()
) -> None:
    """Stop a container, unless that is under way and no later than asked now."""
    until = now + grace
    known = state.stopping.get(id)
    if known is not None and known <= until:
        return
    state.stopping[id] = until
    if known is None:
        state.emit(do.RecordEvent("Normal", "Killing", message, name))
    _probe_readiness_only(state, id, name)
    state.emit(do.StopContainer(id, name, grace, known is None, after))


def _probe_readiness_only(state: PodState, id: str, name: str) -> None:
    """What is being stopped may still say that it is not ready any more, but is not killed for anything."""
    kinds = state.probing.get(id) or ()
    if "readiness" in kinds and "startup" not in kinds and id in state.records:
        _set_probes(state, state.records[id], ("readiness",))
    elif kinds:
        del state.probing[id]
        state.emit(do.StopProbes(id))


# --- a pod that is to end


def _end(state: PodState, now: float) -> None:
    _cancel_start(state)
    _stop_all(state, now)
    if state.running() or state.stopping or state.starting is not None or state.creating_sandbox:
        save_status(state, now)
        return
    _stop_probes(state)
    save_status(state, now, over=True)
    if state.saved < state.version and not state.removed:
        return
    _release(state)
    _conclude(state)


def _cancel_start(state: PodState) -> None:
    """Give up what may be given up; a container that is just being started is waited for."""
    if state.starting is not None and state.starting.step is not Step.START:
        state.emit(do.CancelStart(state.starting.container))
        state.starting = None


def _stop_all(state: PodState, now: float) -> None:
    until = now + _end_grace(state)
    state.grace_until = min(state.grace_until, until) if state.grace_until else until
    left = max(state.grace_until - now, 0.0)
    running = state.running()
    for record in running:
        text = f"Stopping container {record.name}"
        stop(state, record.id, record.name, text, left, now, stops_after(state.pod, record, running))


def _end_grace(state: PodState) -> float:
    """What the pod asks for or its deletion says; an eviction can only shorten it."""
    if state.grace_limit is None:
        return grace_seconds(state.pod)
    if not is_deleted(state.pod):
        return max(state.grace_limit, 1.0)
    return max(min(state.grace_limit, grace_seconds(state.pod)), 1.0)


def _release(state: PodState) -> None:
    """Give back what the runtime holds; files follow when that is gone."""
    for record in list(state.records.values()):
        _remove(state, record)
    sandboxes = set(state.old_sandboxes)
    if state.sandbox is not None:
        sandboxes.add(state.sandbox.id)
    for id in sandboxes - state.removing:
        state.removing.add(id)
        state.emit(do.RemoveSandbox(id))


def _conclude(state: PodState) -> None:
    """Clean up, delete the object if that was asked for, and finish when it is gone."""
    if state.records or state.sandbox is not None or state.old_sandboxes:
        return
    if state.removed and not state.logs_dropped:
        state.logs_dropped, state.cleanup = True, Progress.UNDER_WAY
        state.emit(do.CleanUp(logs=True))
    elif state.cleanup is Progress.NEEDED:
        state.cleanup = Progress.UNDER_WAY
        state.emit(do.CleanUp(logs=False))
    elif state.cleanup is Progress.DONE and state.removed:
        state.emit(do.Finish())
    elif state.cleanup is Progress.DONE and is_deleted(state.pod) and not state.deleting:
        state.deleting = True
        state.emit(do.DeletePod())
