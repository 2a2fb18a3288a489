"""What a node's silence means: conditions, taints and readiness of its pods. Pure.

A node speaks by renewing its Lease and by posting its status. `Health` remembers when it last did, by the controller's
own clock, so that clocks of nodes do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers.nodes import NOT_READY, UNREACHABLE, Taint, taints_of
from tiphys.controllers.objects import condition, labels, spec, status

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
    heartbeat: str = ""
    renewed: str = ""

    def seen(self, node: Object, lease: Object | None, now: float) -> Health:
        """With what `node` and its lease say now."""
        beat = str((condition(status(node), "Ready") or {}).get("lastHeartbeatTime") or "")
        renewed = str(((lease or {}).get("spec") or {}).get("renewTime") or "")
        if (beat and beat != self.heartbeat) or (renewed and renewed != self.renewed):
            return Health(now, beat or self.heartbeat, renewed or self.renewed)
        return replace(self, heartbeat=beat or self.heartbeat)

    def left(self, node: Object, grace: float, startup_grace: float, now: float) -> float:
        """Seconds until its silence is too long; one that never posted a status gets the start-up's patience."""
        patience = grace if condition(status(node), "Ready") is not None else startup_grace
        return self.at + patience - now


def ready_status(node: Object) -> str:
    """True, False or Unknown; "" before the first status."""
    return str((condition(status(node), "Ready") or {}).get("status") or "")


def silent(node: Object, now: float) -> list[Mapping[str, Any]] | None:
    """The conditions of a node that fell silent; None if they say so already."""
    changed = False
    result: list[Mapping[str, Any]] = list(status(node).get("conditions") or ())
    stamp = rfc3339(now)
    for type in _WATCHED:
        old = condition(status(node), type)
        if old is not None and old.get("status") == "Unknown":
            continue
        changed = True
        if old is None:
            new = {
                "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
            }
        else:
            new = {**old, "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
        new = {**new, "type": type, "status": "Unknown", "lastTransitionTime": stamp}
        position = next((number for number, each in enumerate(result) if each["type"] == type), len(result))
        result[position : position + 1] = [new]
    return result if changed else None


def no_schedule(node: Object) -> list[Taint]:
    """The NoSchedule taints that its conditions call for."""
    wanted: list[Taint] = []
    for each in status(node).get("conditions") or ():
        key = _CONDITION_TAINTS.get((each["type"], str(each.get("status"))))
        if key is not None:
            wanted.append({"key": key, "effect": "NoSchedule"})
    if spec(node).get("unschedulable"):
        wanted.append({"key": _UNSCHEDULABLE, "effect": "NoSchedule"})
    return wanted


def no_execute(node: Object) -> Taint | None:
    """The NoExecute taint that its readiness calls for."""
    key = _CONDITION_TAINTS.get(("Ready", ready_status(node)))
    return {"key": key, "effect": "NoExecute"} if key is not None else None


def with_taints(node: Object, now: float, *, add: bool, keep: bool) -> list[Taint] | None:
    """The taints that it should have; None if it has them.

    While the node is not ready, `add` tells if a NoExecute taint may be put on and `keep` if one that is there may
    stay."""
    wanted = no_schedule(node)
    execute = no_execute(node)
    present = taints_of(node)
    if execute is not None and (add or (keep and evicting(present))):
        wanted.append(execute)
    keys = {(each["key"], each["effect"]) for each in wanted}
    kept = [each for each in present if not _managed(each) or (each["key"], each.get("effect")) in keys]
    there = {(each["key"], each.get("effect")) for each in kept}
    fresh = [{**each, "timeAdded": rfc3339(now)} for each in wanted if (each["key"], each["effect"]) not in there]
    return None if not fresh and len(kept) == len(present) else [*kept, *fresh]


def evicting(taints: Iterable[Taint]) -> bool:
    """Whether one of them evicts pods because the node is not ready."""
    return any(_managed(each) and each.get("effect") == "NoExecute" for each in taints)


def _managed(taint: Taint) -> bool:
    effect = taint.get("effect")
    if effect == "NoExecute":
        return taint["key"] in (NOT_READY, UNREACHABLE)
    return effect == "NoSchedule" and taint["key"] in _OURS


def beta_labels(node: Object) -> dict[str, str]:
    """Deprecated labels that should repeat stable ones, where they do not."""
    present = labels(node)
    return {old: present[new] for new, old in _LABELS if new in present and present.get(old) != present[new]}


def zone_of(node: Object) -> str:
    """Nodes of one zone fail together; the name of its region and zone."""
    present = labels(node)
    return f"{present.get('topology.kubernetes.io/region', '')}/{present.get('topology.kubernetes.io/zone', '')}"


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """How fast nodes may be given up; upstream's defaults."""

    rate: float = 0.1
    """Nodes a second while the zone is healthy."""
    secondary_rate: float = 0.01
    unhealthy: float = 0.55
    """From this share of nodes that are not ready (and at least three) the zone is unhealthy."""
    large: int = 50
    """Zones of no more nodes are not evicted at all when unhealthy."""

    def interval(self, nodes: Sequence[Object], zone: str) -> float | None:
        """Seconds between two nodes of `zone`; None: none at all, as when no node of the cluster is ready, which
        is more likely our fault than theirs."""
        counted = [node for node in nodes if "node.kubernetes.io/exclude-disruption" not in labels(node)]
        if not any(ready_status(node) == "True" for node in counted):
            return None
        mine = [node for node in counted if zone_of(node) == zone]
        lost = sum(ready_status(node) != "True" for node in mine)
        if lost < len(mine) and lost > 2 and lost / len(mine) >= self.unhealthy:
            return 1 / self.secondary_rate if len(mine) > self.large and self.secondary_rate else None
        return 1 / self.rate if self.rate else None


def pods_to_unready(pods: Iterable[Object]) -> list[Object]:
    """Pods that still claim to be ready, on a node that is not."""
    return [pod for pod in pods if (condition(status(pod), "Ready") or {}).get("status") == "True"]
