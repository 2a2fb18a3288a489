"""Events of events.k8s.io, as the scheduler records them: the first of a kind is written, then only how many came.

The rules are client-go's (tools/events). Of events that differ in nothing but their note the second makes a series of
the first one; further ones are counted here and told half-hourly, or when none has come for six minutes. Recording
never waits and never fails. While nothing is remembered no timer runs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.clock import Clock, rfc3339_micro
from tiphys.base.errors import AlreadyExists, ApiError, NotFound
from tiphys.client.events import reference
from tiphys.client.types import STRATEGIC_PATCH, Client, Object, Resource

log = logging.getLogger(__name__)

EVENTS_V1 = Resource("events.k8s.io", "v1", "events")
_FINISH = 360.0
"""Seconds without another one after which a series is over; how often that is looked at."""
_REFRESH = 5
"""Looks after which the series that go on are told."""
_TRIES, _PAUSE = 12, 10.0
_BACKLOG = 1000
_LONGEST, _CUT = 1024, " ..."


@dataclass(slots=True)
class _Series:
    """An event that was recorded, and how often it has come since."""

    event: dict[str, Any]
    seen: float
    count: int = 1

    def told(self) -> dict[str, Any]:
        """What the server is told of it."""
        if self.count == 1:
            return self.event
        series = {"count": self.count, "lastObservedTime": rfc3339_micro(self.seen)}
        return {**self.event, "series": series}


@dataclass(slots=True)
class _Known:
    """Series by what their events have in common."""

    series: dict[str, _Series] = field(default_factory=dict)
    some: asyncio.Event = field(default_factory=asyncio.Event)


class EventSeriesRecorder:
    """Records events as `controller`; `run` writes them."""

    def __init__(self, client: Client, clock: Clock, controller: str) -> None:
        self._client, self._clock = client, clock
        self._speaker = {
            "reportingController": controller,
            "reportingInstance": f"{controller}-{socket.gethostname()}"[:128],
        }
        self._known = _Known()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_BACKLOG)
        self._last_stamp = 0

    def event(
        self, obj: Object, type: str, reason: str, note: str, *, action: str, related: Object | None = None
    ) -> None:
        """Note an event about `obj`, on account of `related`. Never waits, never fails."""
        now = self._clock.time()
        regarding = reference(obj)
        about = {"regarding": regarding, **({"related": reference(related)} if related is not None else {})}
        common = {**self._speaker, "action": action, "reason": reason, "type": type, **about}
        known = self._known.series.get(key := repr(common))
        if known is not None:
            known.count, known.seen = known.count + 1, now
            if known.count == 2:
                self._put(known.told())
            return
        meta = {"name": self._name(regarding.get("name", ""), now), "namespace": regarding.get("namespace", "default")}
        text = note if len(note) <= _LONGEST else note[: _LONGEST - len(_CUT)] + _CUT
        head = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": meta}
        event = {**head, "eventTime": rfc3339_micro(now), "note": text, **common}
        self._known.series[key] = _Series(event, now)
        self._known.some.set()
        self._put(event)

    def _put(self, event: dict[str, Any]) -> None:
        if self._queue.full():
            log.warning("too many events wait to be written, dropped: %s %s", event["reason"], event["note"])
            return
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Write events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(), name="event series")
            while True:
                await self._deliver(await self._queue.get())

    async def _look(self) -> None:
        """Finish what is over, tell of what goes on."""
        looks = 0
        while True:
            await self._known.some.wait()
            await self._clock.sleep(_FINISH)
            looks += 1
            now = self._clock.time()
            for key, each in list(self._known.series.items()):
                over = now - each.seen >= _FINISH
                if over:
                    del self._known.series[key]
                if each.count > 1 and (over or looks % _REFRESH == 0):
                    self._put(each.told())
            if not self._known.series:
                self._known.some.clear()

    async def _deliver(self, event: dict[str, Any]) -> None:
        """Write one event; while the server cannot be reached it is tried again."""
        for _ in range(_TRIES):
            try:
                await self._write(event)
            except AlreadyExists:
                if "series" not in event:
                    return
            except ApiError as error:
                log.info("event %s about %s was refused: %s", event["reason"], event["regarding"], error)
                return
            except OSError as error:
                log.debug("event %s is tried again: %s", event["reason"], error)
            else:
                return
            await self._clock.sleep(_PAUSE)

    async def _write(self, event: dict[str, Any]) -> None:
        meta = event["metadata"]
        if "series" in event:
            patch = {"series": event["series"]}
            try:
                await self._client.patch(EVENTS_V1, meta["name"], patch, meta["namespace"], type=STRATEGIC_PATCH)
            except NotFound:
                log.debug("event %s has expired", meta["name"])
            else:
                return
        await self._client.create(EVENTS_V1, event, meta["namespace"])

    def _name(self, name: str, now: float) -> str:
        """The object's name and a nanosecond stamp, made unique by counting on."""
        self._last_stamp = max(self._last_stamp + 1, int(now * 1e9))
        return f"{name}.{self._last_stamp:x}"
