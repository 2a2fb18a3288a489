"""Which pods end together when the node shuts down, and how long they have. Pure.

Groups follow `shutdownGracePeriodByPodPriority`, or the two that `shutdownGracePeriod` and
`shutdownGracePeriodCriticalPods` amount to (KEP-2000, KEP-2712).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.eviction.ranking import priority_of
from tiphys.kubelet.eviction.refusal import SYSTEM_CRITICAL
from tiphys.kubelet.podspec import Object

REFUSAL = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
REASON = "Terminated"
MESSAGE = "Pod was terminated in response to imminent node shutdown."


@dataclass(slots=True)
class ShutdownGroup:
    """Pods from `priority` on up to the next group's; they have `seconds` together."""

    priority: int
    seconds: int
    pods: list[Object] = field(default_factory=list)

    def grace(self, pod: Object) -> float:
        """Of one pod: its own, when that is shorter."""
        own = pod["spec"].get("terminationGracePeriodSeconds")
        return float(self.seconds if own is None else min(int(own), self.seconds))


def periods(config: KubeletConfig) -> list[tuple[int, int]]:
    """(priority, seconds), the lowest priority first; [] when the node does not shut down gracefully."""
    if config.shutdown_grace_by_priority:
        return sorted(config.shutdown_grace_by_priority)
    critical = config.shutdown_grace_critical
    normal = config.shutdown_grace - critical
    if not config.shutdown_grace or normal < 0:
        return []
    return [(0, int(normal)), (SYSTEM_CRITICAL, int(critical))]


def total(config: KubeletConfig) -> int:
    """Seconds that the whole shutdown may take."""
    return sum(seconds for _, seconds in periods(config))


def grouped(config: KubeletConfig, pods: Iterable[Object]) -> list[ShutdownGroup]:
    """The groups that have pods, in the order in which they end. A pod below all groups is in the first."""
    groups = [ShutdownGroup(priority, seconds) for priority, seconds in periods(config)]
    for pod in pods:
        fitting = [group for group in groups if group.priority <= priority_of(pod)]
        (fitting[-1] if fitting else groups[0]).pods.append(pod)
    return [group for group in groups if group.pods]
