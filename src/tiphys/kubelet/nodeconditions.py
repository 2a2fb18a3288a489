"""The conditions of a node: its pressures, and whether it is ready. Pure.

Reasons, messages and events are upstream's (kubelet 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import rfc3339


@dataclass(frozen=True, slots=True)
class Health:
    """What conditions are made from."""

    pressures: tuple[str, ...] = ()
    """Those that the node is under, e.g. MemoryPressure."""
    errors: tuple[str, ...] = ()
    """Why the node is not ready."""


_PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}


def node_conditions(health: Health, old: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    """All four, Ready last; `old` is the status before, for transition times."""
    former = {condition["type"]: condition for condition in old.get("conditions") or ()}
    found: list[dict[str, Any]] = []
    for kind, texts in _PRESSURES.items():
        pressed = kind in health.pressures
        reason, message = texts[0 if pressed else 1]
        found.append(_condition(kind, "True" if pressed else "False", reason, message, former.get(kind), now))
    errors = list(dict.fromkeys(health.errors))
    if errors:
        ready = ("False", "KubeletNotReady", errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    else:
        ready = ("True", "KubeletReady", "kubelet is posting ready status")
    found.append(_condition("Ready", *ready, former.get("Ready"), now))
    return found


def _condition(
    kind: str, status: str, reason: str, message: str, former: Mapping[str, Any] | None, now: float
) -> dict[str, Any]:
    unchanged = former is not None and former["status"] == status
    since = former.get("lastTransitionTime") if former is not None and unchanged else None
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": since or rfc3339(now),
    }


_EVENTS = {
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Reasons of the events that tell which conditions changed."""
    former = {condition["type"]: condition["status"] for condition in old.get("conditions") or ()}
    return [
        _EVENTS[condition["type"], condition["status"]]
        for condition in new["conditions"]
        if former.get(condition["type"]) != condition["status"]
    ]
