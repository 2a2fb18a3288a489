"""How long a pod waits for its volumes, and what is said meanwhile. Pure.

As upstream: tries are 0.5 s doubling to 122 s apart, and every 123 s an event tells what is still missing.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST, LIMIT = 0.5, 122.0
PATIENCE = 123.0


def timed_out(unmounted: tuple[str, ...], unprocessed: tuple[str, ...] = (), why: str = "") -> str:
    """The event's text for a pod that waits for these volumes."""
    return (
        f"Unable to attach or mount volumes: unmounted volumes=[{' '.join(unmounted)}], unattached volumes=[], "
        f"failed to process volumes=[{' '.join(unprocessed)}]: {why or 'context deadline exceeded'}"
    )


@dataclass(slots=True)
class VolumeWait:
    """Of one pod, until all its volumes are there."""

    failures: int = 0
    since: float = 0.0

    def failed(
        self, messages: tuple[str, ...], unmounted: tuple[str, ...], now: float
    ) -> tuple[tuple[str, ...], float]:
        """Note a failed try; returns the texts of its events and the moment of the next one."""
        if not self.failures:
            self.since = now
        delay = min(FIRST * 2.0 ** min(self.failures, 10), LIMIT)
        self.failures += 1
        if unmounted and now - self.since >= PATIENCE:
            self.since = now
            messages = (*messages, timed_out(unmounted))
        return messages, min(now + delay, self.since + PATIENCE)
