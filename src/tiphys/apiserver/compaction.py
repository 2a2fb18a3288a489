"""Forgets history as upstream does: every five minutes, what was replaced more than five minutes ago.

From then on lists and watches from before it answer 410 (`Caches.horizon`). Several servers take turns: each round is
one compare-and-swap of a row, and whoever loses it leaves the round to the winner (as upstream's compact_rev_key). A
store that nobody shares keeps the rows themselves some time longer, for those who want to know who did what. A server
to which nothing is written has no timer.
"""

from __future__ import annotations

import logging
from collections import deque

import orjson

from tiphys.apiserver.feed import Caches
from tiphys.base.clock import Clock
from tiphys.store.types import Mismatch, Row, Store, StoreError

log = logging.getLogger(__name__)

KEY = "tiphys/compaction"
ACTOR = "system:apiserver"
NEVER = -1


class Compaction:
    """`interval`: seconds between rounds; `history`: seconds that an unshared store keeps what was replaced."""

    def __init__(self, store: Store, caches: Caches, clock: Clock, interval: float, history: float) -> None:
        self._store, self._caches, self._clock = store, caches, clock
        self._interval, self._history = interval, 0.0 if store.shared else history
        self._last: Row | None = None
        self._quiet = caches.current
        self._marks: deque[tuple[float, int]] = deque()

    async def run(self) -> None:
        """One round after the other, until cancelled."""
        if self._interval <= 0:
            return
        while True:
            await self._caches.wait(self._quiet + 1)
            await self._clock.sleep(self._interval)
            try:
                await self._round()
            except StoreError as error:
                log.warning("history was not compacted: %s", error)

    async def _round(self) -> None:
        before = self._last
        row = await self._store.get(KEY)
        if row is not None and (before is None or row.revision != before.revision):
            # Another server had this round, or this one has just started.
            self._last, self._quiet = row, NEVER
            self._caches.horizon = max(self._caches.horizon, int(orjson.loads(row.value)))
            return
        oldest = before.revision if before is not None else 0
        try:
            expect = row.revision if row is not None else 0
            self._last = await self._store.put(KEY, b"%d" % oldest, expect=expect, actor=ACTOR, cause="compaction")
        except Mismatch:
            return
        self._quiet = self._last.revision if oldest else NEVER
        if oldest:
            self._caches.horizon = max(self._caches.horizon, oldest)
            await self._forget(oldest)

    async def _forget(self, revision: int) -> None:
        now = self._clock.time()
        self._marks.append((now, revision))
        due = 0
        while self._marks and self._marks[0][0] <= now - self._history:
            due = self._marks.popleft()[1]
        if due:
            await self._store.compact(due)
