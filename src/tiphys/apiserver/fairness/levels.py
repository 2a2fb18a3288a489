"""Priority levels: how many seats each has, what it lends, what it borrows.

A seat is one request under way; a large list takes several. A level may always use what it never lends. Beyond that
it may use seats that are free in the whole server, up to its own and what it may borrow, as long as what the
others never lend stays free for them. Upstream moves borrowed seats every ten seconds; here it is decided at each
request, so that free seats are never idle while requests wait.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tiphys.apiserver.fairness.queues import Queue, Queues, Waiting
from tiphys.apiserver.types import Object
from tiphys.base.clock import Clock

LARGEST = 10
"""Seats that one request takes at most."""
_SHARE = 0.15
"""Of a level's seats, what one request takes at most."""


class Rejected(Exception):
    """No seat: `reason` is queue-full, concurrency-limit or time-out, upstream's labels."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Ticket:
    """The right to be under way."""

    seats: int
    queue: Queue | None
    start: float


@dataclass(slots=True, eq=False)
class Level:
    """A priority level at work."""

    name: str
    uid: str = ""
    exempt: bool = False
    nominal: int = 1
    lendable: int = 0
    borrowing: int = 0
    queues: Queues | None = None
    widest: int = 1
    """Seats that one request takes at most."""
    executing: int = 0
    """Seats in use."""
    requests: int = 0
    """Requests under way."""
    dispatched: Counter[str] = field(default_factory=Counter)
    """By flow schema."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By flow schema and reason."""

    @property
    def kept(self) -> int:
        """Seats that it never lends."""
        return self.nominal - self.lendable

    @property
    def waiting(self) -> int:
        return 0 if self.queues is None else self.queues.length


class Pool:
    """The seats of the server, and the levels that share them."""

    def __init__(self, seats: int, clock: Clock) -> None:
        self.seats, self._clock = seats, clock
        self.levels: dict[str, Level] = {}
        self._executing = 0
        self._waiting = 0

    def configure(self, objects: Iterable[Object]) -> None:
        """Take over PriorityLevelConfigurations; requests under way or waiting keep their places."""
        objects = list(objects)
        total = sum(map(_shares, objects)) or 1
        names = {obj["metadata"]["name"] for obj in objects}
        for name in [name for name, level in self.levels.items() if name not in names and not level.requests]:
            if not self.levels[name].waiting:
                del self.levels[name]
        for obj in objects:
            name = obj["metadata"]["name"]
            level = self.levels.setdefault(name, Level(name))
            _configure(level, obj, math.ceil(self.seats * _shares(obj) / total))
        self._dispatch()

    def try_enter(self, level: Level, flow: str, seats: int) -> Ticket | None:
        """A place at once, if nobody waits and there are seats."""
        if level.waiting or not self._free(level, seats):
            return None
        queue = level.queues.choose(flow) if level.queues is not None and level.executing else None
        return self._enter(level, seats, queue)

    async def wait(self, level: Level, flow: str, seats: int, seconds: float) -> Ticket:
        """A place as soon as it is this flow's turn. Raises Rejected."""
        if level.queues is None:
            raise Rejected("concurrency-limit")
        queues, queue = level.queues, level.queues.choose(flow)
        if queues.full(queue):
            raise Rejected("queue-full")
        one = queues.join(queue, seats)
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await one.turn
        except BaseException as error:
            self._give_up(level, queues, one)
            if isinstance(error, TimeoutError):
                raise Rejected("time-out") from None
            raise
        finally:
            self._waiting -= 1
        return Ticket(seats, queue, self._clock.monotonic())

    def leave(self, level: Level, ticket: Ticket) -> None:
        """The request is answered: its seats are free for others."""
        level.executing -= ticket.seats
        level.requests -= 1
        self._executing -= ticket.seats
        if ticket.queue is not None and level.queues is not None:
            level.queues.ended(ticket.queue, ticket.seats, self._clock.monotonic() - ticket.start)
        if self._waiting:
            self._dispatch()

    def _enter(self, level: Level, seats: int, queue: Queue | None) -> Ticket:
        level.executing += seats
        level.requests += 1
        self._executing += seats
        if queue is not None and level.queues is not None:
            level.queues.started(queue, seats)
        return Ticket(seats, queue, self._clock.monotonic())

    def _give_up(self, level: Level, queues: Queues, one: Waiting) -> None:
        if one.turn.done() and not one.turn.cancelled():
            self.leave(level, Ticket(one.seats, one.queue, self._clock.monotonic()))
        else:
            queues.leave(one)
            self._dispatch()  # it may have kept seats from those behind it

    def _free(self, level: Level, seats: int) -> bool:
        wanted = level.executing + seats
        if wanted <= level.kept:
            return True
        if wanted > level.nominal + level.borrowing:
            return False
        owed = sum(max(0, one.kept - one.executing) for one in self.levels.values() if one is not level)
        return self._executing + seats + owed <= self.seats

    def _dispatch(self) -> None:
        """Let in whoever has seats now."""
        for level in self.levels.values():
            queues = level.queues
            while queues is not None and (one := queues.first()) is not None and self._free(level, one.seats):
                queues.take(one)
                level.executing += one.seats
                level.requests += 1
                self._executing += one.seats
                one.turn.set_result(None)


def _shares(obj: Object) -> int:
    part = _part(obj)
    shares = part.get("nominalConcurrencyShares")
    if shares is None:
        return 30 if obj["spec"].get("type") == "Limited" else 0
    return int(shares)


def _part(obj: Object) -> dict[str, Any]:
    return obj["spec"].get("limited" if obj["spec"].get("type") == "Limited" else "exempt") or {}


def _configure(level: Level, obj: Object, nominal: int) -> None:
    part = _part(obj)
    level.uid, level.nominal = obj["metadata"].get("uid", ""), nominal
    level.exempt = obj["spec"].get("type") != "Limited"
    level.lendable = round(nominal * (part.get("lendablePercent") or 0) / 100)
    percent = part.get("borrowingLimitPercent")
    level.borrowing = 10**9 if percent is None else round(nominal * percent / 100)
    queuing = (part.get("limitResponse") or {}).get("queuing") if not level.exempt else None
    if queuing is None:
        level.queues, level.widest = None, LARGEST
        return
    shape = (queuing["queues"], queuing["handSize"], queuing["queueLengthLimit"])
    level.widest = max(1, min(LARGEST, math.ceil(nominal * _SHARE), nominal // shape[1]))
    if level.queues is None or (level.queues.shape != shape and not level.queues.length):
        level.queues = Queues(*shape)
