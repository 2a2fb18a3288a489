"""What a node's silence means: conditions, taints and readiness of its pods. Pure.

A node speaks by renewing its Lease and by posting its status. `Health` remembers when it last did, by the controller's
own clock, so that clocks of nodes do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers.nodes import NOT_READY, UNREACHABLE, Taint, taints_of
from tiphys.controllers.objects import condition, created, labels, moment, spec, status

_CONDITION_TAINTS = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OURS = {*_CONDITION_TAINTS.values(), _UNSCHEDULABLE}
_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_LABELS = (("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch"))


@dataclass(frozen=True, slots=True)
class Health:
    """The last sign of life of a node: when (monotonic seconds), and what it was."""

    at: float
    heartbeat: str | None = None
    """None: its status has no condition Ready."""
    renewed: float = 0.0

    @staticmethod
    def first(node: Object, monotonic: float, now: float) -> Health:
        """Of a node that is seen for the first time: one without a status is as silent as it is old."""
        if condition(status(node), "Ready") is not None:
            return Health(monotonic)
        return Health(monotonic - max(0.0, now - (created(node) or now)))

    def seen(self, node: Object, lease: Object | None, now: float) -> Health:
        """With what `node` and its lease say now."""
        found = condition(status(node), "Ready")
        beat = None if found is None else str(found.get("lastHeartbeatTime") or "")
        renewed = moment(spec(lease).get("renewTime")) if lease is not None else 0.0
        if beat != self.heartbeat or renewed > self.renewed:
            return Health(now, beat, max(renewed, self.renewed))
        return self

    def left(self, node: Object, grace: float, startup_grace: float, now: float) -> float:
        """Seconds until its silence is too long; one that never posted a status gets the start-up's patience."""
        patience = grace if condition(status(node), "Ready") is not None else startup_grace
        return self.at + patience - now


def next_check(left: float, now: float, period: float) -> float:
    """Seconds until the first of the regular checks after `left` seconds. Nodes that fall silent together are seen
    together, so that the loss of a whole zone is not taken for that of its first node."""
    return (math.floor((now + left) / period) + 1) * period - now


def ready_status(node: Object) -> str:
    """True, False or Unknown; "" before the first status."""
    return str((condition(status(node), "Ready") or {}).get("status") or "")


def silent(node: Object, now: float) -> list[Mapping[str, Any]] | None:
    """The conditions of a node that fell silent; None if they say so already."""
    if ready_status(node) == "Unknown":
        return None
    result: list[Mapping[str, Any]] = list(status(node).get("conditions") or ())
    stamp = rfc3339(now)
    for type in _WATCHED:
        old = condition(status(node), type)
        if old is not None and old.get("status") == "Unknown":
            continue
        if old is None:
            new = {
                "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
            }
        else:
            new = {**old, "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
        new = {**new, "type": type, "status": "Unknown", "lastTransitionTime": stamp}
        position = next((number for number, each in enumerate(result) if each.get("type") == type), len(result))
        result[position : position + 1] = [new]
    return result


def no_schedule(node: Object) -> list[Taint]:
    """The NoSchedule taints that its conditions call for."""
    wanted: list[Taint] = []
    for each in status(node).get("conditions") or ():
        key = _CONDITION_TAINTS.get((str(each.get("type")), str(each.get("status"))))
        if key is not None:
            wanted.append({"key": key, "effect": "NoSchedule"})
    if spec(node).get("unschedulable"):
        wanted.append({"key": _UNSCHEDULABLE, "effect": "NoSchedule"})
    return wanted


class Execution(Enum):
    """What becomes of the NoExecute taints for readiness."""

    KEEP = "keep"
    ADD = "add"
    REMOVE = "remove"


def no_execute(node: Object) -> Taint | None:
    """The NoExecute taint that its readiness calls for."""
    key = _CONDITION_TAINTS.get(("Ready", ready_status(node)))
    return {"key": key, "effect": "NoExecute"} if key is not None else None


def with_taints(node: Object, now: float, execution: Execution) -> list[Taint] | None:
    """The taints that it should have; None if it has them.

    ADD: that for its readiness, instead of the other one."""
    wanted = no_schedule(node)
    execute = no_execute(node)
    if execution is Execution.ADD and execute is not None:
        wanted.append(execute)
    keys = {(each["key"], each["effect"]) for each in wanted}

    def stays(taint: Taint) -> bool:
        if execution is Execution.KEEP and evicting([taint]):
            return True
        return not _managed(taint) or (taint["key"], taint.get("effect")) in keys

    present = taints_of(node)
    kept = [each for each in present if stays(each)]
    there = {(each["key"], each.get("effect")) for each in kept}
    fresh = [{**each, "timeAdded": rfc3339(now)} for each in wanted if (each["key"], each["effect"]) not in there]
    return None if not fresh and len(kept) == len(present) else [*kept, *fresh]


def evicting(taints: Iterable[Taint]) -> bool:
    """Whether one of them evicts pods because the node is not ready."""
    return any(each["key"] in (NOT_READY, UNREACHABLE) and each.get("effect") == "NoExecute" for each in taints)


def _managed(taint: Taint) -> bool:
    effect = taint.get("effect")
    if effect == "NoExecute":
        return evicting([taint])
    return effect == "NoSchedule" and taint["key"] in _OURS


def beta_labels(node: Object) -> dict[str, str]:
    """Deprecated labels that should repeat stable ones, where they do not."""
    present = labels(node)
    return {old: present[new] for new, old in _LABELS if new in present and present.get(old) != present[new]}


def pods_to_unready(pods: Iterable[Object]) -> list[Object]:
    """Pods that still claim to be ready, on a node that is not."""
    return [pod for pod in pods if (condition(status(pod), "Ready") or {}).get("status") == "True"]
