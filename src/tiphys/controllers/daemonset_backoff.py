"""How long a failed pod of a DaemonSet is left alone before it is deleted and made anew. Pure.

A kubelet that rejects a pod would reject the next one at once, in a tight loop. Per DaemonSet, generation and node the
delay doubles from 1 s to 15 min, and is forgotten after twice that time without a failure.
"""

from __future__ import annotations

FIRST = 1.0
LONGEST = 900.0

Place = tuple[str, int, str]
"""uid of the DaemonSet, the generation that was observed, name of the node."""


class FailedPodBackoff:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._entries: dict[Place, tuple[float, float]] = {}

    def wait(self, place: Place, now: float) -> float:
        """Seconds for which the next failed pod has to be left alone; 0 if it may go now."""
        delay, at = self._entries.get(place, (0.0, now))
        return max(0.0, at + delay - now)

    def failed(self, place: Place, now: float) -> None:
        """A failed pod is deleted now: the next one has to wait."""
        for each in [each for each, (_, at) in self._entries.items() if now - at > 2 * LONGEST]:
            del self._entries[each]
        before = self._entries.get(place, (0.0, now))[0]
        self._entries[place] = (min(LONGEST, before * 2) or FIRST, now)
