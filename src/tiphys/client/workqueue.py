"""The queue between informers and workers, with client-go's semantics.

A key that waits is in the queue once, however often it was added; a key that a worker holds is never handed to
another, and if it was added meanwhile it comes back when the worker is done. Delays are timers of the running
event loop (virtual ones on the virtual loop): an idle queue costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from tiphys.client.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class Closed(Exception):
    """The queue was shut down and is empty."""


class WorkQueue(Generic[K]):
    """De-duplicating queue with delayed and rate-limited adds; use it on one event loop."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(base=0.005, limit=1000.0)
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._held: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K) -> None:
        """Have `key` handled soon."""
        if self._closed or key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._held:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` handled in `seconds`; of several delays for one key the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def add_rate_limited(self, key: K) -> float:
        """Have `key` handled after its back-off, which doubles until `forget`; returns that delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = self._backoff.delay(failures)
        self.add_after(key, delay)
        return delay

    def failures(self, key: K) -> int:
        """How often `key` was rate limited since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """`key` went well: its back-off starts over."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; the caller must call `done` with it. Raises Closed after `close`."""
        while not self._ready:
            if self._closed:
                raise Closed
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled():
                    self._wake()  # pass on the call that this getter will not answer
                raise
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._held.add(key)
        return key

    def done(self, key: K) -> None:
        """The worker has finished with `key`."""
        self._held.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._wake()

    def close(self) -> None:
        """Accept no more; waiting getters get Closed once the queue is empty."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._getters:
            self._wake()

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
