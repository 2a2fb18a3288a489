"""How long a container that ended waits before it runs again. Pure arithmetic.

As upstream: the first restart is at once, then 10 s doubling to 300 s (crashLoopBackOff.maxContainerRestartPeriod),
counted from the end of the last run; a run of more than 10 minutes starts the series over. A container that the
kubelet killed to start it anew (a failed probe) is judged by the end of the run before it. What the next wait is
travels in a label of the container (labels.BACKOFF), so a kubelet that was killed goes on counting.
"""

from __future__ import annotations

from tiphys.kubelet.labels import Record

INITIAL = 10.0
LIMIT = 300.0
HEALTHY = 600.0


def _recovered(ended: Record) -> bool:
    return ended.finished_at - ended.created_at > HEALTHY


def restart_delay(ended: Record) -> float:
    """Seconds after `ended.finished_at` before it may run again."""
    return 0.0 if _recovered(ended) else ended.backoff


def next_backoff(ended: Record | None, limit: float = LIMIT) -> float:
    """What the container started after `ended` gets as its own delay; None: there was none before."""
    if ended is None:
        return 0.0
    if ended.backoff <= 0 or _recovered(ended):
        return min(INITIAL, limit)
    return min(2 * ended.backoff, limit)


def waits_after_kill(killed: Record, before: Record | None, now: float) -> bool:
    """Whether a container that was killed to be restarted is put off all the same; `before` is the run before it."""
    return before is not None and now - before.finished_at < restart_delay(killed)


class PullBackoff:
    """Waits between pulls of one image for one pod: 10 s doubling to 300 s."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._until = 0.0
        self.message = ""
        """What the last pull failed with."""

    def failed(self, now: float, message: str) -> float:
        """Note a failure; returns the moment of the next try."""
        self._delay = min(2 * self._delay, LIMIT) if self._delay else INITIAL
        self._until = now + self._delay
        self.message = message
        return self._until

    def waits(self, now: float) -> bool:
        return now < self._until

    @property
    def until(self) -> float:
        return self._until
