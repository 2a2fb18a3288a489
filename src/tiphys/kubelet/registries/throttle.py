"""How many pulls there may be: registryPullQPS on average, registryBurst at once; what is beyond that fails."""

from __future__ import annotations

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError


class TooManyPulls(TiphysError):
    """Now; the next try of the container may have more luck."""


class Throttle:
    """A bucket of `burst` tokens that fills by `qps` a second."""

    def __init__(self, qps: float, burst: int, clock: Clock) -> None:
        self._qps, self._burst, self._clock = qps, burst, clock
        self._tokens = float(burst)
        self._at = clock.monotonic()

    def take(self) -> None:
        """Raises TooManyPulls when there is none."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._qps)
        self._at = now
        if self._tokens < 1:
            raise TooManyPulls("pull QPS exceeded")
        self._tokens -= 1
