"""Room: what the pod asks for must be free; among nodes where it is, the emptier and the more even one is better."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import MAX_SCORE, SILENT, Change, Plugin


class Fit(Plugin):
    """NodeResourcesFit, scored as LeastAllocated: the mean of the free shares of cpu and memory."""

    name = "NodeResourcesFit"
    weight = 1
    helped_by = Change.NODE | Change.ROOM

    def local(self, pod: PodInfo, state: Any) -> Hashable | None:
        return ()

    def filter(self, pod: PodInfo, node: NodeInfo, state: Any) -> tuple[str, ...]:
        room, used = node.allocatable, node.used
        full = len(node.pods) >= room.get("pods", 0)
        short = [
            name
            for name, amount in pod.requests.items()
            if amount > 0 and used.get(name, 0) + amount > room.get(name, 0)
        ]
        if not full and not short:
            return ()
        return (*(("Too many pods",) if full else ()), *(f"Insufficient {name}" for name in short))

    def resolvable(self, pod: PodInfo, node: NodeInfo, reasons: tuple[str, ...]) -> bool:
        return all(amount <= node.allocatable.get(name, 0) for name, amount in pod.requests.items())

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        (cpu, memory), (more_cpu, more_memory) = node.scoring, pod.scoring
        shares = []
        if (room := node.allocatable.get("cpu", 0)) > 0:
            shares.append(max(0.0, 1.0 - (cpu + more_cpu) / room))
        if (room := node.allocatable.get("memory", 0)) > 0:
            shares.append(max(0.0, 1.0 - (memory + more_memory) / room))
        return MAX_SCORE * sum(shares) / len(shares) if shares else 0.0


class BalancedAllocation(Plugin):
    """NodeResourcesBalancedAllocation: what makes the used shares of cpu and memory more alike is better.

    A pod that asks for neither has no say, or many such pods would gather on one node."""

    name = "NodeResourcesBalancedAllocation"
    weight = 1

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        return None if pod.requests.get("cpu") or pod.requests.get("memory") else SILENT

    def local(self, pod: PodInfo, state: Any) -> Hashable | None:
        return ()

    def score(self, pod: PodInfo, node: NodeInfo, state: Any) -> float:
        room, used, more = node.allocatable, node.used, pod.requests
        cpu_room, memory_room = room.get("cpu", 0), room.get("memory", 0)
        if not cpu_room or not memory_room:
            return MAX_SCORE * 0.75
        cpu, memory = used.get("cpu", 0), used.get("memory", 0)
        before = abs(min(1.0, cpu / cpu_room) - min(1.0, memory / memory_room)) / 2
        cpu, memory = cpu + more.get("cpu", 0), memory + more.get("memory", 0)
        after = abs(min(1.0, cpu / cpu_room) - min(1.0, memory / memory_room)) / 2
        return MAX_SCORE * (0.75 + (before - after) / 2)
