"""Whom a node under pressure still admits. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.kubelet.eviction.messages import REASON
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.resources import qos_class

SYSTEM_CRITICAL = 2_000_000_000
_SOURCE, _MIRROR = "kubernetes.io/config.source", "kubernetes.io/config.mirror"
_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


def is_critical(pod: Object) -> bool:
    """Static pods, their mirrors, and those of the system's priorities: never evicted, always admitted."""
    annotations = pod["metadata"].get("annotations") or {}
    if annotations.get(_SOURCE, "api") != "api" or _MIRROR in annotations:
        return True
    return int(pod["spec"].get("priority") or 0) >= SYSTEM_CRITICAL


def refusal(pod: Object, conditions: Sequence[str]) -> tuple[str, str] | None:
    """(reason, message), or None when the pod may run. Memory alone keeps out only best-effort pods."""
    if not conditions or is_critical(pod):
        return None
    if tuple(conditions) == ("MemoryPressure",) and (qos_class(pod) != "BestEffort" or _tolerates(pod)):
        return None
    return REASON, f"The node had condition: [{' '.join(conditions)}]. "


def _tolerates(pod: Object) -> bool:
    return any(_matches(one) for one in pod["spec"].get("tolerations") or ())


def _matches(toleration: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != _TAINT["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != _TAINT["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and not toleration.get("value")
