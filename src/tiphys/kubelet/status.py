"""A pod's status worked out from what is known of it: phase, conditions, addresses, containers. Pure.

Rules and texts are those of the pod lifecycle in the Kubernetes documentation and of kubelet 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.kubelet import restart_all
from tiphys.kubelet.addresses import host_network_addresses, pod_addresses
from tiphys.kubelet.conditions import disruption, is_own, pod_conditions, restarting_condition
from tiphys.kubelet.container_status import Facts, Waiting, container_statuses, mark_lost, set_readiness
from tiphys.kubelet.labels import SandboxRecord
from tiphys.kubelet.plan import View, was_initialized
from tiphys.kubelet.podspec import (
    Object,
    ephemeral_containers,
    generation_of,
    init_containers,
    is_host_network,
    is_sidecar,
    main_containers,
    should_restart,
)
from tiphys.kubelet.resource_status import pod_resources_status
from tiphys.kubelet.resources import qos_class
from tiphys.kubelet.staticpods.manifest import is_static

TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a status is made from."""

    view: View
    old: Mapping[str, Any]
    """The status so far: the last one made here, or the API's."""
    sandbox: SandboxRecord | None
    waiting: Mapping[str, Waiting]
    host_ips: Sequence[str]
    now: float
    hooking: str = ""
    over: bool = False
    """No container runs and none will: the phase may become terminal."""
    resizing: Sequence[dict[str, Any]] = ()
    """Conditions that tell of a resize."""
    verdict: tuple[str, str] | None = None
    """(reason, message) when the pod is failed by the kubelet: its deadline, an eviction."""
    disrupted: str = ""
    """The message of a DisruptionTarget condition that tells that, once nothing runs any more."""


def rejected_status(pod: Object, old: Mapping[str, Any], reason: str, message: str, now: float) -> dict[str, Any]:
    """Of a pod that the node does not admit: its own conditions say nothing any more."""
    kept = [condition for condition in old.get("conditions") or () if not is_own(condition)]
    status = {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "qosClass": qos_class(pod),
        "startTime": old.get("startTime") or rfc3339(now),
        "conditions": kept,
    }
    if generation := generation_of(pod):
        status["observedGeneration"] = generation
    return status


def make_status(given: Situation) -> dict[str, Any]:
    """The whole status."""
    pod, old = given.view.pod, given.old
    status: dict[str, Any] = {"qosClass": qos_class(pod), "startTime": old.get("startTime") or rfc3339(given.now)}
    if generation := generation_of(pod):
        status["observedGeneration"] = generation
    restarting = not given.over and restart_all.is_restarting(pod, given.view.records, old)
    facts = Facts(given.view, given.waiting, given.hooking, was_initialized(given.view), restarting)
    _add_containers(facts, pod, old, status)
    if given.over:
        mark_lost(status, pod)
    set_readiness(facts, pod, status)
    _add_addresses(given, status)
    ended = given.over and not is_static(pod)
    status["phase"] = _final_phase(given, pod_phase(pod, status, ended, facts.initialized), ended)
    _add_reason(given, status)
    status |= pod_resources_status(pod, given.view.records)
    made = pod_conditions(pod, old, _foreseen(given, status), given.sandbox, given.now)
    status["conditions"] = made if status["phase"] in TERMINAL else [*made, *given.resizing]
    if restart_all.may_restart_all(pod):
        resetting = restarting and bool(restart_all.left_to_reset(pod, given.view.records))
        status["conditions"].append(restarting_condition(resetting, status["phase"], old, given.now))
    if given.disrupted and status["phase"] in TERMINAL:
        status["conditions"] = disruption(pod, status["conditions"], given.disrupted, given.now)
    return status


def _add_containers(facts: Facts, pod: Object, old: Mapping[str, Any], status: dict[str, Any]) -> None:
    for kind, containers in (
        ("initContainerStatuses", init_containers(pod)),
        ("containerStatuses", main_containers(pod)),
        ("ephemeralContainerStatuses", ephemeral_containers(pod)),
    ):
        if containers or kind == "containerStatuses":
            status[kind] = container_statuses(facts, containers, old, kind)


def _add_addresses(given: Situation, status: dict[str, Any]) -> None:
    """Host addresses always; the pod's own while its sandbox lives, and afterwards what it had."""
    if given.host_ips:
        status["hostIP"] = given.host_ips[0]
        status["hostIPs"] = [{"ip": address} for address in given.host_ips]
    known = [entry["ip"] for entry in given.old.get("podIPs") or ()]
    addresses = pod_addresses(given.sandbox.ips if given.sandbox is not None else (), given.host_ips)
    if is_host_network(given.view.pod):
        addresses = host_network_addresses(given.host_ips, known)
    if found := list(addresses) or known:
        status["podIP"] = found[0]
        status["podIPs"] = [{"ip": address} for address in found]


def _foreseen(given: Situation, status: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pod past its deadline is not ready any more, though it does not count as failed while something runs."""
    late = given.verdict is not None and given.verdict[0] == "DeadlineExceeded"
    return {**status, "phase": "Failed"} if late else status


def _final_phase(given: Situation, phase: str, ended: bool) -> str:
    """No way back from a terminal phase, and none into one while something may still run."""
    former = str(given.old.get("phase") or "Pending")
    if former in TERMINAL:
        return former
    if given.over and given.verdict is not None:
        return "Failed"
    if ended and phase not in TERMINAL:
        return "Failed"
    return former if phase in TERMINAL and not given.over else phase


def _add_reason(given: Situation, status: dict[str, Any]) -> None:
    if given.verdict is not None and status["phase"] == "Failed":
        status["reason"], status["message"] = given.verdict
    elif status["phase"] == given.old.get("phase"):
        for name in ("reason", "message"):
            if given.old.get(name):
                status[name] = given.old[name]


@dataclass(slots=True)
class _Count:
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    succeeded: int = 0
    final: int = 0
    """Stopped and not to be started again."""
    pending_init: int = 0
    pending_sidecars: int = 0
    failed_init: bool = False


def pod_phase(pod: Object, status: Mapping[str, Any], over: bool, begun: bool) -> str:
    """Pending, Running, Succeeded or Failed, from container statuses; `begun`: whether a main container was started
    in the present sandbox."""
    count = _Count()
    states = {entry["name"]: entry for kind in _KINDS for entry in status.get(kind) or ()}
    for container in init_containers(pod):
        (_count_sidecar if is_sidecar(container) else _count_init)(count, pod, container, states[container["name"]])
    for container in main_containers(pod):
        _count_main(count, pod, container, states[container["name"]])
    if count.failed_init:
        return "Failed"
    if count.pending_init or (count.pending_sidecars and not begun) or count.waiting:
        return "Pending"
    if count.running:
        return "Running"
    if not count.stopped:
        return "Pending"
    if not over and count.stopped != count.final:
        return "Running"
    return "Succeeded" if count.stopped == count.succeeded else "Failed"


_KINDS = ("initContainerStatuses", "containerStatuses")


def _ended(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How its last run ended: its state, or its last state while it waits to run again."""
    found = entry["state"].get("terminated")
    if found is None and "waiting" in entry["state"]:
        found = (entry.get("lastState") or {}).get("terminated")
    return found  # type: ignore[no-any-return]  # decoded JSON


def _runs_again(pod: Object, container: Object, ended: Mapping[str, Any]) -> bool:
    return ended.get("reason") == restart_all.REASON or should_restart(pod, container, ended["exitCode"])


def _count_init(count: _Count, pod: Object, container: Object, entry: Mapping[str, Any]) -> None:
    ended = _ended(entry)
    if ended is None:
        count.pending_init += 1
    elif ended["exitCode"] != 0 and not _runs_again(pod, container, ended):
        count.failed_init = True


def _count_sidecar(count: _Count, pod: Object, container: Object, entry: Mapping[str, Any]) -> None:
    if "running" in entry["state"]:
        count.running += 1
        count.pending_sidecars += 0 if entry["started"] else 1
    elif "waiting" in entry["state"] and _ended(entry) is None:
        count.pending_sidecars += 1
        count.waiting += 1


def _count_main(count: _Count, pod: Object, container: Object, entry: Mapping[str, Any]) -> None:
    ended = _ended(entry)
    if "running" in entry["state"]:
        count.running += 1
    elif ended is None:
        count.waiting += 1
    else:
        count.stopped += 1
        count.final += 0 if _runs_again(pod, container, ended) else 1
        count.succeeded += 1 if "terminated" in entry["state"] and ended["exitCode"] == 0 else 0
