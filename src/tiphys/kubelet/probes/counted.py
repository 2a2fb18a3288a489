"""Counts the probes of one container, by kind and result, until its pod goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import Clock
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, all_containers, name_of, namespace_of, uid_of
from tiphys.kubelet.probes.prober import ProbeError, Result, Target
from tiphys.kubelet.probes.schedule import Asks

KINDS = ("Startup", "Liveness", "Readiness")
RESULTS = ("successful", "failed", "unknown")


class CountedProber:
    """`Asks` for the containers of one pod."""

    def __init__(self, inner: Asks, metrics: KubeletMetrics, clock: Clock, pod: Object) -> None:
        self._inner, self._metrics, self._clock, self._pod = inner, metrics, clock, pod

    async def probe(self, probe: Mapping[str, Any], target: Target) -> Result:
        """One result. Raises ProbeError."""
        began = self._clock.monotonic()
        try:
            result = await self._inner.probe(probe, target)
        except ProbeError:
            self._count(probe, target, "unknown", began)
            raise
        self._count(probe, target, "successful" if result.healthy else "failed", began)
        return result

    def _count(self, probe: Mapping[str, Any], target: Target, result: str, began: float) -> None:
        kind = next((kind for kind in KINDS if target.container.get(f"{kind.lower()}Probe") is probe), "")
        where = (str(target.container["name"]), name_of(self._pod), namespace_of(self._pod))
        self._metrics.probe_total.inc(kind, result, *where, uid_of(self._pod))
        if result == "successful":
            self._metrics.probe_duration.observe(self._clock.monotonic() - began, kind, *where)


def forget(metrics: KubeletMetrics, pod: Object) -> None:
    """Drop the series of a pod that is gone."""
    for container in all_containers(pod):
        where = (str(container["name"]), name_of(pod), namespace_of(pod))
        for kind in KINDS:
            metrics.probe_duration.remove(kind, *where)
            for result in RESULTS:
                metrics.probe_total.remove(kind, result, *where, uid_of(pod))
