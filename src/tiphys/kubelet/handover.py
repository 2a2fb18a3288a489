"""The status that a pod's state machine hands over, out of what state.py knows; status.py works it out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiphys.kubelet import instructions as do
from tiphys.kubelet import resizing
from tiphys.kubelet.conditions import is_own
from tiphys.kubelet.podspec import find_container, is_deleted, is_terminal
from tiphys.kubelet.progress import Step
from tiphys.kubelet.status import Situation, make_status, rejected_status

if TYPE_CHECKING:
    from tiphys.kubelet.state import PodState


def is_ending(state: PodState) -> bool:
    """Whether the pod is to end, or is over: nothing of it is started any more."""
    return bool(
        state.removed
        or state.complete
        or state.verdict
        or state.rejection
        or is_deleted(state.pod)
        or is_terminal(state.pod)
    )


def save_status(state: PodState, now: float, over: bool = False) -> None:
    """Hand over the status if it changed."""
    if state.removed:
        return
    status = _status(state, now, over)
    if status != state.status:
        state.status = status
        state.version += 1
        state.emit(do.SaveStatus(status, state.version))


def _status(state: PodState, now: float, over: bool) -> dict[str, Any]:
    old = _known_status(state)
    if state.rejection is not None:
        return rejected_status(state.pod, old, *state.rejection, now=now)
    ending = is_ending(state)
    waiting = {} if ending else {name: failure.waiting for name, failure in state.failures.items()}
    return make_status(
        Situation(
            view=state.view(),
            old=old,
            sandbox=None if over else state.sandbox,
            waiting=waiting,
            host_ips=state.host_ips,
            now=now,
            hooking="" if ending else _hooking(state),
            over=over,
            resizing=resizing.conditions(state.resize),
            verdict=state.verdict,
            disrupted=state.disrupted,
        )
    )


def _hooking(state: PodState) -> str:
    """The container whose postStart hook runs, or is being stopped because that failed: it does not run yet."""
    if state.starting is not None and state.starting.step is not Step.PULL:
        container = find_container(state.pod, state.starting.container) or {}
        return state.starting.container if (container.get("lifecycle") or {}).get("postStart") else ""
    stopped = (record.name for record in state.running() if record.id in state.stopping)
    return next((name for name in stopped if _hook_failed(state, name)), "")


def _hook_failed(state: PodState, name: str) -> bool:
    failure = state.failures.get(name)
    return failure is not None and failure.waiting.reason == "PostStartHookError"


def _known_status(state: PodState) -> dict[str, Any]:
    """The last status made here, with what others wrote since: conditions of theirs, a terminal phase."""
    theirs = state.pod.get("status") or {}
    old = dict(state.status)
    mine = [condition for condition in old.get("conditions") or () if is_own(condition)]
    kinds = {condition["type"] for condition in mine}
    old["conditions"] = [c for c in theirs.get("conditions") or () if not is_own(c) and c["type"] not in kinds] + mine
    if is_terminal(state.pod):
        old |= {name: theirs[name] for name in ("phase", "reason", "message") if name in theirs}
    return old
