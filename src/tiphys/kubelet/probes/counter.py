"""What a row of probe results adds up to: thresholds, as core/v1 Probe defines them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Counter:
    """Counts results of one probe; `verdict` is what they add up to so far (None: not known)."""

    success_threshold: int
    failure_threshold: int
    verdict: bool | None = None
    _last: bool | None = None
    _run: int = 0

    @classmethod
    def of(cls, probe: Mapping[str, Any], verdict: bool | None = None) -> Counter:
        return cls(int(probe.get("successThreshold") or 1), int(probe.get("failureThreshold") or 3), verdict)

    def add(self, healthy: bool) -> bool:
        """Count one result; returns whether the verdict changed."""
        self._run = self._run + 1 if healthy == self._last else 1
        self._last = healthy
        threshold = self.success_threshold if healthy else self.failure_threshold
        if self._run < threshold or self.verdict == healthy:
            return False
        self.verdict = healthy
        return True
