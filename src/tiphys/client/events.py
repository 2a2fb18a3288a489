"""Events about objects, for people to read: recorded without waiting, written by a task of their own.

The correlation is client-go's: the same event again bumps `count` and `lastTimestamp` of the first one; more
than ten alike but for the message within ten minutes become one "(combined from similar events)"; one source may
speak 25 times about an object and then once in five minutes. A failure to write is logged, never raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import ApiError, NotFound
from tiphys.client.resources import EVENTS
from tiphys.client.types import STRATEGIC_PATCH, Client, Object

log = logging.getLogger(__name__)

NORMAL, WARNING = "Normal", "Warning"

_WINDOW = 600.0
_MAX_SIMILAR = 10
_BURST = 25
_REFILL = 1 / 300.0
_REMEMBERED = 4096
_BACKLOG = 10_000


def reference(obj: Object, field_path: str = "") -> dict[str, str]:
    """The ObjectReference of `obj` that an event's involvedObject is."""
    meta = obj["metadata"]
    ref = {
        "kind": obj.get("kind"),
        "namespace": meta.get("namespace"),
        "name": meta.get("name"),
        "uid": meta.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": meta.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {name: str(value) for name, value in ref.items() if value}


@dataclass(slots=True)
class _Bucket:
    """Token bucket of one source and object."""

    tokens: float = float(_BURST)
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(float(_BURST), self.tokens + (now - self.at) * _REFILL)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Similar:
    """Messages seen of events alike but for the message, since `at`."""

    messages: set[str] = field(default_factory=set)
    at: float = 0.0


class Correlator:
    """Decides what becomes of an event: dropped, created, or counted on an earlier one. No I/O."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._written: OrderedDict[tuple[str, ...], Object] = OrderedDict()

    def correlate(self, event: Object, now: float) -> tuple[Object, Object | None] | None:
        """(what to write, the event it is counted on or None); None to drop it. `now` is in seconds."""
        ref = event["involvedObject"]
        about = tuple(ref.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion"))
        source = tuple(event["source"].values())
        if not _remembered(self._buckets, source + about, _Bucket(at=now)).take(now):
            return None
        alike = (*source, *about, ref.get("fieldPath", ""), event["type"], event["reason"])
        message = str(event["message"])
        key = (*alike, message)
        similar = _remembered(self._similar, alike, _Similar(at=now))
        if now - similar.at > _WINDOW:
            similar.messages.clear()
        similar.at = now
        similar.messages.add(message)
        if len(similar.messages) > _MAX_SIMILAR:
            key = alike
            similar.messages.pop()
            event = {**event, "message": f"(combined from similar events): {message}"}
        earlier = self._written.get(key)
        if earlier is None:
            return event, None
        changes = {name: event[name] for name in ("message", "lastTimestamp")}
        return {**earlier, **changes, "count": int(earlier["count"]) + 1}, earlier

    def written(self, event: Object) -> None:
        """Remember what the server has, to count on."""
        ref = event["involvedObject"]
        about = tuple(ref.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion"))
        alike = (*event["source"].values(), *about, ref.get("fieldPath", ""), event["type"], event["reason"])
        message = str(event["message"])
        combined = message.startswith("(combined from similar events)")
        key = alike if combined else (*alike, message)
        self._written[key] = event
        self._written.move_to_end(key)
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)


def _remembered(table: OrderedDict[tuple[str, ...], Any], key: tuple[str, ...], fresh: Any) -> Any:
    value = table.setdefault(key, fresh)
    table.move_to_end(key)
    while len(table) > _REMEMBERED:
        table.popitem(last=False)
    return value


class EventRecorder:
    """Records events as `component` on `host`; `run` writes them."""

    def __init__(self, client: Client, clock: Clock, component: str, host: str = "") -> None:
        self._client = client
        self._clock = clock
        self._source = {"component": component, **({"host": host} if host else {})}
        self._correlator = Correlator()
        self._queue: asyncio.Queue[Object] = asyncio.Queue(_BACKLOG)
        self._last_stamp = 0

    def event(
        self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "", action: str = ""
    ) -> None:
        """Note an event about `obj` (it needs apiVersion, kind and metadata). Never waits, never fails."""
        self.about(reference(obj, field_path), type, reason, message, action)

    def about(self, ref: Object, type: str, reason: str, message: str, action: str = "") -> None:
        """Note an event about the object that an ObjectReference names."""
        now = self._clock.time()
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self._name(ref, now), "namespace": ref.get("namespace") or "default"},
            "involvedObject": dict(ref),
            "reason": reason,
            "message": message[:1024],
            "source": self._source,
            "firstTimestamp": rfc3339(now),
            "lastTimestamp": rfc3339(now),
            "count": 1,
            "type": type,
            "eventTime": None,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            **({"action": action} if action else {}),
        }
        if self._queue.full():
            log.warning("too many events wait to be written, dropped: %s %s", reason, message)
            return
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except (ApiError, OSError) as error:
                log.info("event %s about %s was not written: %s", event["reason"], event["involvedObject"], error)

    async def _write(self, event: Object) -> None:
        decision = self._correlator.correlate(event, self._clock.time())
        if decision is None:
            return
        wanted, earlier = decision
        if earlier is not None:
            try:
                self._correlator.written(await self._count(wanted))
            except NotFound:
                log.debug("event %s has expired", earlier["metadata"]["name"])
            else:
                return
        fresh = {**wanted, "metadata": event["metadata"]}
        self._correlator.written(await self._client.create(EVENTS, fresh, event["metadata"]["namespace"]))

    async def _count(self, wanted: Object) -> Object:
        patch = {name: wanted[name] for name in ("count", "lastTimestamp", "message")}
        meta = wanted["metadata"]
        return await self._client.patch(EVENTS, meta["name"], patch, meta["namespace"], type=STRATEGIC_PATCH)

    def _name(self, ref: Object, now: float) -> str:
        """Upstream's form: the object's name and a nanosecond stamp, made unique by counting on."""
        self._last_stamp = max(self._last_stamp + 1, int(now * 1e9))
        return f"{ref.get('name', '')}.{self._last_stamp:x}"
