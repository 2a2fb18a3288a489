"""Pod conditions: PodScheduled, PodReadyToStartContainers, Initialized, ContainersReady, Ready. Pure.

Conditions of others (readiness gates, DisruptionTarget ...) are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.kubelet import restart_all
from tiphys.kubelet.labels import SandboxRecord
from tiphys.kubelet.podspec import Object, generation_of, init_containers, is_sidecar, main_containers

OWNED = (
    *("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"),
    *("PodResizePending", "PodResizeInProgress"),
    restart_all.CONDITION,
)

DISRUPTION = "DisruptionTarget"
BY_KUBELET = "TerminationByKubelet"

Finding = tuple[str, str, str]
"""(status, reason, message)"""

_YES: Finding = ("True", "", "")


def pod_conditions(
    pod: Object, old: Mapping[str, Any], status: Mapping[str, Any], sandbox: SandboxRecord | None, now: float
) -> list[dict[str, Any]]:
    """All conditions of the pod, others' first."""
    foreign = [condition for condition in old.get("conditions") or () if condition["type"] not in OWNED]
    containers_ready = _containers_ready(pod, status)
    findings = {
        "PodReadyToStartContainers": _YES if sandbox is not None and sandbox.running else ("False", "", ""),
        "Initialized": _initialized(pod, status, old),
        "Ready": _ready(pod, foreign, containers_ready),
        "ContainersReady": containers_ready,
        "PodScheduled": _YES,
    }
    former = {condition["type"]: condition for condition in old.get("conditions") or ()}
    made = [_condition(kind, finding, former.get(kind), pod, now) for kind, finding in findings.items()]
    return [*(dict(condition) for condition in foreign), *made]


def is_own(condition: Object) -> bool:
    """Whether the kubelet wrote it: DisruptionTarget is its own only when it ended the pod itself."""
    return condition["type"] in OWNED or (condition["type"] == DISRUPTION and condition.get("reason") == BY_KUBELET)


def restarting_condition(resetting: bool, phase: str, old: Mapping[str, Any], now: float) -> dict[str, Any]:
    """AllContainersRestarting: true while containers are removed for it. It tells of no generation."""
    ends = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}
    finding: Finding = ("False", ends.get(phase, ""), "")
    if resetting and phase not in ends:
        finding = ("True", "RestartAllContainersStarted", "container exited with restart policy rule")
    former = next((one for one in old.get("conditions") or () if one["type"] == restart_all.CONDITION), None)
    return _condition(restart_all.CONDITION, finding, former, {"metadata": {}}, now)


def disruption(pod: Object, conditions: Sequence[Object], message: str, now: float) -> list[dict[str, Any]]:
    """`conditions` with the one that says that the kubelet ended the pod; it takes the place of another's."""
    former = next((one for one in conditions if one["type"] == DISRUPTION), None)
    made = _condition(DISRUPTION, ("True", BY_KUBELET, message), former, pod, now)
    return [*(dict(one) for one in conditions if one["type"] != DISRUPTION), made]


def _condition(kind: str, finding: Finding, former: Object | None, pod: Object, now: float) -> dict[str, Any]:
    status, reason, message = finding
    unchanged = former is not None and former["status"] == status
    since = former.get("lastTransitionTime") if former is not None and unchanged else None
    condition = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since or rfc3339(now)}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    if generation := generation_of(pod):
        condition["observedGeneration"] = generation
    return condition


def _names(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"


def _entries(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    kinds = ("initContainerStatuses", "containerStatuses")
    return {entry["name"]: entry for kind in kinds for entry in status.get(kind) or ()}


def _containers_ready(pod: Object, status: Mapping[str, Any]) -> Finding:
    entries = _entries(status)
    expected = [c["name"] for c in init_containers(pod) if is_sidecar(c)] + [c["name"] for c in main_containers(pod)]
    unknown = [name for name in expected if name not in entries]
    unready = [name for name in expected if name in entries and not entries[name]["ready"]]
    if status["phase"] == "Succeeded" and not unknown:
        return "False", "PodCompleted", ""
    if status["phase"] == "Failed":
        return "False", "PodFailed", ""
    parts = []
    if unknown:
        parts.append(f"containers with unknown status: {_names(unknown)}")
    if unready:
        parts.append(f"containers with unready status: {_names(unready)}")
    return ("False", "ContainersNotReady", ", ".join(parts)) if parts else _YES


def _ready(pod: Object, foreign: Sequence[Object], containers_ready: Finding) -> Finding:
    if containers_ready[0] != "True":
        return containers_ready
    states = {condition["type"]: condition["status"] for condition in foreign}
    parts = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in states:
            parts.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif states[kind] != "True":
            parts.append(f'the status of pod readiness gate "{kind}" is not "True", but {states[kind]}')
    return ("False", "ReadinessGatesNotReady", ", ".join(parts)) if parts else _YES


def _initialized(pod: Object, status: Mapping[str, Any], old: Mapping[str, Any]) -> Finding:
    """Once true it stays so, also while init containers run again."""
    entries = _entries(status)
    names = [container["name"] for container in init_containers(pod)]
    unknown = [name for name in names if name not in entries]
    incomplete = [c["name"] for c in init_containers(pod) if c["name"] in entries and not _done(c, entries[c["name"]])]
    if status["phase"] == "Succeeded" and not unknown:
        return "True", "PodCompleted", ""
    if any(_has_started(entries.get(container["name"])) for container in main_containers(pod)):
        return _YES
    parts = []
    if unknown:
        parts.append(f"containers with unknown status: {_names(unknown)}")
    if incomplete:
        parts.append(f"containers with incomplete status: {_names(incomplete)}")
    if not parts or any(one["type"] == "Initialized" and one["status"] == "True" for one in _conditions(old)):
        return _YES
    return "False", "ContainersNotInitialized", ", ".join(parts)


def _conditions(status: Mapping[str, Any]) -> Sequence[Object]:
    return status.get("conditions") or ()


def _done(container: Object, entry: Mapping[str, Any]) -> bool:
    return bool(entry["started"] if is_sidecar(container) else entry["ready"])


def _has_started(entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and ("running" in entry["state"] or "terminated" in entry["state"])
