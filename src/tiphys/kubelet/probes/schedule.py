"""When a container is probed: its startup probe first, then liveness and readiness side by side.

Each probe waits for initialDelaySeconds from the container's start, then asks every periodSeconds. A startup probe
is over with its first verdict, a liveness probe with its first failure: the container is then restarted. Programs
take a moment to start: without a delay a liveness probe waits for its first period, and a failure of the first
startup probe does not count.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tiphys.base.clock import Clock
from tiphys.kubelet.instructions import StartProbes
from tiphys.kubelet.probes.counter import Counter
from tiphys.kubelet.probes.prober import ProbeError, Result, Target

_RETRIES = 3


class Asks(Protocol):
    """What makes one probe; `Prober` does."""

    async def probe(self, probe: Mapping[str, Any], target: Target) -> Result: ...


class ProbeSchedule:
    """Probes one container until cancelled; `verdict(kind, healthy)` is called on changes."""

    def __init__(
        self,
        asks: Asks,
        clock: Clock,
        wanted: StartProbes,
        target: Target,
        verdict: Callable[[str, bool], None],
        event: Callable[[str, str], None],
        ready: bool | None = None,
    ) -> None:
        self._asks = asks
        self._clock = clock
        self._wanted = wanted
        self._target = target
        self._verdict = verdict
        self._event = event
        self._ready = ready
        self._fraction = zlib.crc32(wanted.id.encode()) / 2**32

    async def run(self) -> None:
        """Until cancelled, or until there is nothing more to ask."""
        kinds = list(self._wanted.kinds)
        spread = True
        if "startup" in kinds:
            kinds.remove("startup")
            if not await self._repeat("startup", spread):
                return
            spread = False  # what waited for this is asked at once, however long it took
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(self._repeat(kind, spread), name=f"{kind} probe of {self._wanted.container}")

    async def _repeat(self, kind: str, spread: bool) -> bool:
        """Ask again and again; returns the verdict that ends it. `spread`: not all containers at the same moment."""
        probe = self._target.container[f"{kind}Probe"]
        known = {"liveness": True, "readiness": self._ready}.get(kind)
        counter = Counter.of(probe, known)
        period = float(probe.get("periodSeconds") or 10)
        delay = float(probe.get("initialDelaySeconds") or 0)
        trial = kind == "startup" and not delay
        first = max(delay, period) if kind == "liveness" else delay
        at = max(self._clock.time(), self._wanted.started_at + first)
        if spread and self._clock.time() - self._wanted.started_at > max(period, first):
            at += period * self._fraction  # a kubelet that starts again must not probe all at the same time
        while True:
            await self._clock.sleep(max(0.0, at - self._clock.time()))
            healthy = await self._ask(kind, probe, trial)
            healthy = None if trial and healthy is False else healthy
            trial = False
            if healthy is not None and counter.add(healthy):
                self._verdict(kind, healthy)
                if kind == "startup" or (kind == "liveness" and not healthy):
                    return healthy
            at = max(self._clock.time(), at + period)

    async def _ask(self, kind: str, probe: Mapping[str, Any], trial: bool) -> bool | None:
        """One result with its event, unless it is a trial; None when it could not be had."""
        noun = kind.capitalize()
        error: ProbeError | None = None
        for _ in range(_RETRIES):
            try:
                result = await self._asks.probe(probe, self._target)
            except ProbeError as failed:
                error = failed
                continue
            if result.warning:
                self._event("ProbeWarning", f"{noun} probe warning: {result.output}")
            elif not result.healthy and not trial:
                self._event("Unhealthy", f"{noun} probe failed: {result.output}")
            return result.healthy
        if not trial:
            self._event("Unhealthy", f"{noun} probe errored and resulted in unknown state: {error}")
        return None
