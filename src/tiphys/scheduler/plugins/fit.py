"""Room: what the pod asks for must be free; among nodes where it is, the emptier and the more even one is better."""

from __future__ import annotations

from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo
from tiphys.scheduler.types import MAX_SCORE, Plugin


class Fit(Plugin):
    """NodeResourcesFit, scored as LeastAllocated: the mean of the free shares of cpu and memory."""

    name = "NodeResourcesFit"
    weight = 1

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        reasons = []
        if len(node.pods) + 1 > node.allocatable.get("pods", 0):
            reasons.append("Too many pods")
        reasons += [
            f"Insufficient {name}"
            for name, amount in pod.requests.items()
            if amount > 0 and node.used.get(name, 0) + amount > node.allocatable.get(name, 0)
        ]
        return tuple(reasons)

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        shares = [max(0.0, 1.0 - used) for used in _fractions(pod, node)]
        return MAX_SCORE * sum(shares) / len(shares) if shares else 0.0


class BalancedAllocation(Plugin):
    """NodeResourcesBalancedAllocation: cpu and memory should be used in like shares."""

    name = "NodeResourcesBalancedAllocation"
    weight = 1

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        fractions = [min(1.0, used) for used in _fractions(pod, node)]
        if len(fractions) < 2:
            return float(MAX_SCORE)
        return MAX_SCORE * (1.0 - abs(fractions[0] - fractions[1]) / 2)


def _fractions(pod: PodInfo, node: NodeInfo) -> list[float]:
    """Used shares of cpu and memory if the pod came here; resources that the node lacks are left out."""
    out = []
    for name, used, more in zip(("cpu", "memory"), node.scoring, pod.scoring, strict=True):
        room = node.allocatable.get(name, 0)
        if room > 0:
            out.append((used + more) / room)
    return out
