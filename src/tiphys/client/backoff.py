"""How long to wait before the next try: doubling delays, capped, optionally spread by jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """`base` seconds doubling up to `limit`; `jitter` adds up to that fraction of the delay.

    The spread comes from a generator with a fixed seed, so that runs on the virtual clock repeat exactly.
    """

    base: float = 1.0
    limit: float = 30.0
    jitter: float = 0.0
    seed: str = ""
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - spreads retries, keeps no secret

    def delay(self, failures: int) -> float:
        """Seconds to wait after `failures` earlier failures in a row."""
        # 2.0**1024 overflows; long before that the limit counts
        seconds = min(self.limit, self.base * 2.0 ** min(failures, 60))
        return seconds * (1.0 + self.jitter * self._random.random())
