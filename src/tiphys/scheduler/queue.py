"""Pods that wait for a node: by priority, then by age.

A pod that fits nowhere is parked until something changes that may help (by the plugins that refused it) or five
minutes have passed, and then waits for its back-off (1 s doubling to 10 s) before it is tried again.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field

from tiphys.base.clock import Clock
from tiphys.scheduler.snapshot import PodInfo
from tiphys.scheduler.types import Change

FIRST_BACKOFF = 1.0
LAST_BACKOFF = 10.0
PARKED_AT_MOST = 300.0


@dataclass(slots=True)
class Waiting:
    """One pod in the queue."""

    info: PodInfo
    since: float
    attempts: int = 0
    ready_at: float = 0.0
    """When its back-off ends, by the monotonic clock."""
    timer: asyncio.TimerHandle | None = None
    helped_by: Change = Change.NODE
    """While it is parked: what it waits for."""
    changed: bool = False
    """Whether it changed itself while it was being decided about."""

    @property
    def order(self) -> tuple[int, float, str]:
        return -self.info.priority, self.since, self.info.key


@dataclass(order=True, slots=True)
class _Entry:
    order: tuple[int, float, str]
    waiting: Waiting = field(compare=False)


class SchedulingQueue:
    """Use it on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, Waiting] = {}
        self._active: list[_Entry] = []
        self._queued: set[str] = set()
        self._parked: set[str] = set()
        self._changed = asyncio.Event()
        self._moves = 0
        self._last_moves = dict.fromkeys(Change, 0)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def moves(self) -> int:
        """Counts `something_changed` calls: a decision that overlapped a helpful one is not parked."""
        return self._moves

    def put(self, info: PodInfo) -> None:
        """A pod that needs a node, new or changed."""
        known = self._waiting.get(info.key)
        if known is None:
            self._waiting[info.key] = Waiting(info, self._clock.monotonic())
            self._activate(info.key)
            return
        changed = known.info.pod["spec"] != info.pod["spec"] or known.info.labels != info.labels
        known.info = info
        if changed and info.key in self._parked:
            self._after_backoff(info.key)
        known.changed = changed or known.changed

    def remove(self, uid: str) -> None:
        """The pod was bound by someone, finished or deleted."""
        waiting = self._waiting.pop(uid, None)
        self._parked.discard(uid)
        self._queued.discard(uid)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()

    async def next(self) -> PodInfo:
        """The first pod in order; it stays known until `remove` or `failed`."""
        while True:
            while self._active:
                waiting = heapq.heappop(self._active).waiting
                uid = waiting.info.key
                if uid in self._queued and self._waiting.get(uid) is waiting:
                    self._queued.discard(uid)
                    waiting.attempts += 1
                    waiting.changed = False
                    return waiting.info
            self._changed.clear()
            await self._changed.wait()

    def failed(self, uid: str, moves: int, helped_by: Change) -> None:
        """It fits nowhere. `moves` is what the property was before the try; `helped_by` says what warrants another."""
        waiting = self._waiting.get(uid)
        if waiting is None:
            return
        self._back_off(waiting)
        if waiting.changed or any(self._last_moves[kind] > moves for kind in helped_by):
            self._after_backoff(uid)
            return
        waiting.helped_by = helped_by
        self._parked.add(uid)
        self._set_timer(waiting, PARKED_AT_MOST)

    def retry(self, uid: str) -> None:
        """It got a node but could not be bound: try again after the back-off."""
        waiting = self._waiting.get(uid)
        if waiting is not None:
            self._back_off(waiting)
            self._after_backoff(uid)

    def something_changed(self, what: Change) -> None:
        """The cluster changed in ways that may help parked pods."""
        self._moves += 1
        for kind in what:
            self._last_moves[kind] = self._moves
        for uid in tuple(self._parked):
            if self._waiting[uid].helped_by & what:
                self._after_backoff(uid)

    def _back_off(self, waiting: Waiting) -> None:
        backoff = min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(waiting.attempts - 1, 10))
        waiting.ready_at = self._clock.monotonic() + backoff

    def _after_backoff(self, uid: str) -> None:
        self._parked.discard(uid)
        waiting = self._waiting[uid]
        left = waiting.ready_at - self._clock.monotonic()
        if left > 0:
            self._set_timer(waiting, left)
        else:
            self._activate(uid)

    def _set_timer(self, waiting: Waiting, seconds: float) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
        waiting.timer = asyncio.get_running_loop().call_later(seconds, self._activate, waiting.info.key)

    def _activate(self, uid: str) -> None:
        waiting = self._waiting.get(uid)
        if waiting is None or uid in self._queued:
            return
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        self._parked.discard(uid)
        self._queued.add(uid)
        heapq.heappush(self._active, _Entry(waiting.order, waiting))
        self._changed.set()
