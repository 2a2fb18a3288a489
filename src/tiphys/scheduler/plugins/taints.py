"""Taints that the pod does not tolerate keep it away; those that only prefer to are counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo
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

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        bad = untolerated(pod, node.taints, ("NoSchedule", "NoExecute"))
        if not bad:
            return ()
        taint = bad[0]
        return (f"node(s) had untolerated taint {{{taint.get('key', '')}: {taint.get('value') or ''}}}",)

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        return float(len(untolerated(pod, node.taints, ("PreferNoSchedule",))))

    def normalize(self, scores: list[float]) -> list[float]:
        return scale_down(scores)
