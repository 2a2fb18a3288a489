"""What the eviction manager counts, under upstream's names."""

from __future__ import annotations

from tiphys.base.metrics import Registry


class EvictionMetrics:
    """`registry` renders them."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.evictions = self.registry.counter(
            "kubelet_evictions", "Cumulative number of pod evictions by eviction signal", ("eviction_signal",)
        )
        self.age = self.registry.histogram(
            "kubelet_eviction_stats_age_seconds",
            "Time between when stats are collected, and when pod is evicted based on those stats by eviction signal",
            ("eviction_signal",),
        )
