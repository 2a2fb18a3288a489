"""Bad weather between controllers and the API server: whatever a network and a busy server may do to a call.

A `Process` is one run of a controller manager; its `StormyClient`s fail, wait, lose answers after the write took
effect, stall and cut watches as the `Weather` has it, and fall silent for good once the process is dead. Nothing that
Kubernetes forbids happens: a watch never leaves out or reorders events, a list is never older than its request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import (
    Conflict,
    Gone,
    InternalError,
    ServiceUnavailable,
    Timeout,
    TooManyRequests,
)
from tiphys.client.calls import Call, CallingClient
from tiphys.client.local import LocalClient
from tiphys.client.streams import closing

LEASES = "/leases/"
LONGEST_STALL = 20.0
"""Seconds that a watch is behind at most."""
_WRITE = 0.005
"""Seconds that a write takes at least: controllers that contend because of a late watch do so for ever otherwise."""
LONGEST_DELAY = 2.0
"""Seconds that a call spends on its way at most: less than a lease outlives its last renewal."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Shares, of 1, of the calls (or events of watches) to which something happens."""

    errors: float = 0.0
    """The call fails and nothing was done."""
    losses: float = 0.0
    """The write was done, but the caller is told of a failure."""
    delays: float = 0.0
    """The call waits on its way there, or its answer on the way back."""
    stalls: float = 0.0
    """A watch stops for a while before an event."""
    cuts: float = 0.0
    """A watch ends, or its revision is gone."""


CALM = Forecast()
BREEZE = Forecast(errors=0.01, losses=0.005, delays=0.02, stalls=0.02, cuts=0.002)
GALE = Forecast(errors=0.05, losses=0.03, delays=0.1, stalls=0.1, cuts=0.01)
FOG = Forecast(delays=0.05, stalls=0.4)
"""Everything arrives, but late: caches are never of the same age."""
STORM = Forecast(errors=0.2, losses=0.1, delays=0.2, stalls=0.2, cuts=0.05)
SKIES = (CALM, BREEZE, BREEZE, GALE, FOG, STORM)


@dataclass(slots=True)
class Weather:
    """What happens to calls, by a generator of its own."""

    random: Random
    clock: Clock
    forecast: Forecast = CALM
    lost: set[str] = field(default_factory=set)
    """uids of objects whose creation or deletion was done without its author's being told."""
    leader: Process | None = None
    """Whoever took or renewed the lease last, if there are elections."""
    blackout: float = float("-inf")
    """When somebody was cut off last, in seconds of virtual time; infinite while somebody is."""
    rough: float = float("-inf")
    """Until when the weather was not calm."""
    writes: list[str] = field(default_factory=list)
    """What the server was asked to write lately, and answered that it did, besides leases."""
    refused: list[str] = field(default_factory=list)
    """Writes of processes that did not lead."""

    def happens(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    async def delay(self) -> None:
        if self.happens(self.forecast.delays):
            await self.clock.sleep(self.random.choice([0.001, 0.02, 0.3, LONGEST_DELAY]))

    async def stall(self, since: float) -> float:
        """Hold up a watch that was last held up until `since`; returns until when it has been now.

        What comes at the same instant is delivered: a watch falls behind once, not ever more."""
        if self.clock.monotonic() > since and self.happens(self.forecast.stalls):
            await self.clock.sleep(self.random.choice([0.001, 0.01, 0.1, 0.5, 2, 2, 6, LONGEST_STALL]))
            return self.clock.monotonic()
        return since

    def failure(self, call: Call) -> Exception:
        """Why a call failed before it did anything."""
        kinds: list[Exception] = [
            InternalError("an internal error on the server"),
            ServiceUnavailable("the server is currently unable to handle the request"),
            TooManyRequests("the server has received too many requests", retry_after=self.random.choice([None, 1])),
            Timeout("the request did not complete within the allotted time"),
            ConnectionResetError("connection reset by peer"),
        ]
        if call.method in ("PUT", "PATCH"):
            kinds += [Conflict("the object has been modified; please apply your changes to the latest version")] * 3
        return self.random.choice(kinds)

    def loss(self) -> Exception:
        """What the author of a write hears although it was done."""
        return self.random.choice(
            [
                Timeout("the request did not complete within the allotted time"),
                InternalError("etcdserver: request timed out"),
                ConnectionResetError("connection reset by peer"),
            ]
        )


@dataclass(eq=False, slots=True)
class Process:
    """One run of a manager."""

    name: str
    elects: bool = False
    dead: bool = False
    cut_off: bool = False

    def check(self) -> None:
        """Raises ConnectionError if nothing gets through from it."""
        if self.dead or self.cut_off:
            raise ConnectionRefusedError(f"{self.name} is {'dead' if self.dead else 'cut off'}")


class StormyClient(CallingClient):
    """A process' client, through the weather."""

    def __init__(self, inner: LocalClient, weather: Weather, process: Process) -> None:
        self._inner, self._weather, self._process = inner, weather, process

    async def exchange(self, call: Call) -> Any:
        weather = self._weather
        self._process.check()
        if call.method != "GET":
            await weather.clock.sleep(_WRITE)
        await weather.delay()
        self._process.check()
        if weather.happens(weather.forecast.errors):
            raise weather.failure(call)
        answer = await self._carry_out(call)
        await weather.delay()
        if call.method != "GET" and (weather.happens(weather.forecast.losses) or self._process.cut_off):
            weather.lost.add(_uid(answer))
            raise weather.loss()
        self._process.check()
        return answer

    async def _carry_out(self, call: Call) -> Any:
        weather, process = self._weather, self._process
        lease = LEASES in call.path or call.path.endswith("/leases")
        if process.elects and call.method != "GET" and not lease and weather.leader is not process:
            weather.refused.append(f"{call.method} {call.path} by {process.name}, which does not lead")
        answer = await self._inner.exchange(call)
        if call.method != "GET" and not lease:
            weather.writes.append(f"{call.method} {call.path}")
        if lease and call.method != "GET":
            holder = ((call.body or {}).get("spec") or {}).get("holderIdentity")
            weather.leader = process if holder == process.name else None
        return answer

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        weather = self._weather
        self._process.check()
        await weather.delay()
        if weather.happens(weather.forecast.errors):
            raise weather.random.choice([Gone("too old resource version"), InternalError("no watch")])
        held = 0.0
        async with closing(self._inner.events(call)) as source:
            async for event in source:
                held = await weather.stall(held)
                self._process.check()
                if weather.happens(weather.forecast.cuts):
                    return
                if weather.happens(weather.forecast.cuts):
                    raise weather.random.choice([Gone("too old resource version"), ConnectionResetError("reset")])
                yield event


def _uid(answer: Any) -> str:
    meta = answer.get("metadata") if isinstance(answer, Mapping) else None
    return str((meta or {}).get("uid") or "")
