"""Taints that the pod does not tolerate keep it away; those that only prefer to are counted."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import Plugin, scale_down

Object = Mapping[str, Any]


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration covers one taint (API reference, Toleration)."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(pod: PodInfo, taints: Iterable[Object], effects: tuple[str, ...]) -> list[Object]:
    tolerations = pod.pod["spec"].get("tolerations") or ()
    return [
        taint
        for taint in taints
        if taint.get("effect") in effects and not any(tolerates(toleration, taint) for toleration in tolerations)
    ]


class TaintToleration(Plugin):
    name = "TaintToleration"
    weight = 3

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> bool:
        """Whether any node is only discouraged from: scores then depend on all of them."""
        return snapshot.discouraging > 0

    def local(self, pod: PodInfo, state: bool) -> Hashable | None:
        return None if state else ()

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        if node.taints and untolerated(pod, node.taints, ("NoSchedule", "NoExecute")):
            return ("node(s) had untolerated taint(s)",)
        return ()

    def score(self, pod: PodInfo, node: NodeInfo, state: bool) -> float:
        if not state:
            return 0.0
        return float(len(untolerated(pod, node.taints, ("PreferNoSchedule",))))

    def normalize(self, scores: list[float]) -> list[float]:
        return scale_down(scores)
