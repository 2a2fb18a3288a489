"""Fair queues of one priority level: each flow is dealt a few of the queues and waits in the emptiest of them.

Queues take turns by virtual time: each dispatch moves its queue forward by the seats and seconds that it takes, and
the queue that lags behind most is next (start-time fair queuing). How long a request runs is guessed when it starts
and corrected when it ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b

GUESS = 0.003
"""Seconds that a request is taken to run until it has."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that waits for seats; `turn` is done when it has them."""

    seats: int
    turn: asyncio.Future[None]
    queue: Queue


@dataclass(slots=True, eq=False)
class Queue:
    """Requests of the flows that were dealt this queue, first come first served."""

    waiting: deque[Waiting] = field(default_factory=deque)
    executing: int = 0
    """Seats."""
    position: float = 0.0
    """Virtual time, in seat-seconds, at which its next request starts."""

    def first(self) -> Waiting | None:
        """The one who has waited longest and still does."""
        return next((one for one in self.waiting if not one.turn.done()), None)

    @property
    def load(self) -> int:
        return self.executing + sum(one.seats for one in self.waiting)


class Queues:
    """All queues of a level."""

    def __init__(self, count: int, hand: int, limit: int) -> None:
        self.shape = (count, hand, limit)
        self._queues = [Queue() for _ in range(count)]
        self._hand, self._limit = hand, limit
        self._clock = 0.0
        self.length = 0
        """Requests that wait."""

    def choose(self, flow: str) -> Queue:
        """The emptiest of the queues that a flow was dealt."""
        return min((self._queues[index] for index in deal(flow, len(self._queues), self._hand)), key=lambda q: q.load)

    def full(self, queue: Queue) -> bool:
        return len(queue.waiting) >= self._limit

    def join(self, queue: Queue, seats: int) -> Waiting:
        """Wait in `queue`."""
        self._wake(queue)
        one = Waiting(seats, asyncio.get_running_loop().create_future(), queue)
        queue.waiting.append(one)
        self.length += 1
        return one

    def leave(self, one: Waiting) -> None:
        """Give up waiting."""
        one.queue.waiting.remove(one)
        self.length -= 1

    def first(self) -> Waiting | None:
        """Whose turn it is; None when nobody waits. A request that was cancelled, and has yet to learn of it, is
        passed over: its seats would never come back."""
        if not self.length:
            return None
        heads = [(queue, one) for queue in self._queues if (one := queue.first()) is not None]
        found = min(heads, key=lambda head: head[0].position + head[1].seats * GUESS, default=None)
        return None if found is None else found[1]

    def take(self, one: Waiting) -> None:
        """It is dispatched: its queue moves forward."""
        self.leave(one)
        self._clock = max(self._clock, one.queue.position)
        self.started(one.queue, one.seats)

    def started(self, queue: Queue, seats: int) -> None:
        self._wake(queue)
        queue.position += seats * GUESS
        queue.executing += seats

    def ended(self, queue: Queue, seats: int, seconds: float) -> None:
        queue.position += seats * (seconds - GUESS)
        queue.executing -= seats

    def _wake(self, queue: Queue) -> None:
        """A queue that was empty has no claim to the time that it did not use."""
        if not queue.waiting and not queue.executing:
            queue.position = max(queue.position, self._clock)


def deal(flow: str, count: int, hand: int) -> list[int]:
    """`hand` different queues of `count` for a flow, always the same ones (shuffle sharding)."""
    entropy = int.from_bytes(blake2b(flow.encode(), digest_size=32).digest(), "big")
    deck = list(range(count))
    dealt = []
    for _ in range(min(hand, count)):
        entropy, index = divmod(entropy, len(deck))
        dealt.append(deck.pop(index))
    return dealt
