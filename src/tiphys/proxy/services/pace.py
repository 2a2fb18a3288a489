"""How soon the kernel is brought up to date again: at once, but in a long burst of changes not all the time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

BURST, REFILL = 20.0, 5.0
"""Times at once after a quiet while, and how many of them each second gives back."""
SHARE = 3.0
"""In a burst: how much longer than the last time took to wait for more changes, which then go together."""
LONGEST = 0.25
"""Seconds that a change waits at most."""


@dataclass(slots=True)
class Pace:
    """Times are monotonic seconds."""

    _tokens: float = BURST
    _noted: float = 0.0
    _free: float = 0.0

    def note(self, ended: float, seconds: float) -> None:
        """The kernel was brought up to date, which took so long."""
        self._tokens = max(0.0, self._refilled(ended) - 1.0)
        self._noted, self._free = ended, ended + min(LONGEST, SHARE * seconds)

    def delay(self, now: float) -> float:
        """Seconds to wait before the next time."""
        return 0.0 if self._refilled(now) >= 1.0 else max(0.0, self._free - now)

    def _refilled(self, now: float) -> float:
        return min(BURST, self._tokens + REFILL * (now - self._noted))
