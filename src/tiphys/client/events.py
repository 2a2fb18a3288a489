"""Events about objects, for people to read: recorded without waiting, written by a task of their own.

The correlation is client-go's: the same event again bumps `count` and `lastTimestamp` of the first one; from the
tenth on that are alike but for the message, less than ten minutes apart, they become one "(combined from similar
events)"; one source may speak 25 times about an object (of good things, and as often of bad ones) and then once in
five minutes. What the server refuses is logged and dropped; while it cannot be reached, events are tried again for two
minutes. Nothing is ever raised to who records.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
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
_TRIES, _PAUSE = 12, 10.0
"""How often an event is tried, and seconds in between, while the server cannot be reached."""


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


@dataclass(frozen=True, slots=True)
class Correlated:
    """What to write, the event on the server that it is counted on (None: it is new), and the key of its kind."""

    event: Object
    earlier: Object | None
    key: tuple[str, ...]


class Correlator:
    """Decides what becomes of an event: dropped, created, or counted on an earlier one. No I/O."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._counts: OrderedDict[tuple[str, ...], int] = OrderedDict()
        self._written: OrderedDict[tuple[str, ...], Object] = OrderedDict()

    def correlate(self, event: Object, now: float) -> Correlated | None:
        """What to do about `event`; None to drop it, though it counts all the same. `now` is in seconds."""
        ref = event["involvedObject"]
        about = tuple(ref.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion"))
        speaker = (*event["source"].values(), *about, event["type"])
        alike = (*speaker, event["reason"])
        message = str(event["message"])
        key = (*alike, ref.get("fieldPath", ""), message)
        similar = _remembered(self._similar, alike, _Similar(at=now))
        if now - similar.at > _WINDOW:
            similar.messages.clear()
        similar.at = now
        similar.messages.add(message)
        if len(similar.messages) >= _MAX_SIMILAR:
            key = alike
            similar.messages.pop()
            combined = {"message": f"(combined from similar events): {message}"}
            event = {**event, **combined, "reportingComponent": "", "reportingInstance": ""}
        count = _remembered(self._counts, key, 0) + 1
        self._counts[key] = count
        if not _remembered(self._buckets, speaker, _Bucket(at=now)).take(now):
            return None
        earlier = self._written.get(key)
        if earlier is None:
            return Correlated({**event, "count": count}, None, key)
        return Correlated({**event, **earlier, "count": count}, earlier, key)

    def written(self, key: tuple[str, ...], event: Object) -> None:
        """Remember what the server has of that key, to count on: no more than is needed, thousands are kept."""
        metadata = {name: event["metadata"][name] for name in ("name", "namespace")}
        self._written[key] = {"metadata": metadata, "firstTimestamp": event.get("firstTimestamp")}
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
        self,
        obj: Object,
        type: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        action: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Note an event about `obj` (it needs apiVersion, kind and metadata). Never waits, never fails."""
        self.about(reference(obj, field_path), type, reason, message, action, annotations)

    def about(
        self,
        ref: Object,
        type: str,
        reason: str,
        message: str,
        action: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Note an event about the object that an ObjectReference names; `annotations` are the event's own."""
        now = self._clock.time()
        metadata = {"name": self._name(ref, now), "namespace": ref.get("namespace") or "default"}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata | ({"annotations": dict(annotations)} if annotations else {}),
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
            found = self._correlator.correlate(event, self._clock.time())
            if found is None:
                continue
            try:
                await self._deliver(event, found)
            except (ApiError, OSError) as error:
                log.info("event %s about %s was not written: %s", event["reason"], event["involvedObject"], error)

    async def _deliver(self, event: Object, found: Correlated) -> None:
        for _ in range(1, _TRIES):
            try:
                return await self._write(event, found)
            except OSError as error:
                log.debug("event %s is tried again: %s", event["reason"], error)
                await self._clock.sleep(_PAUSE)
        await self._write(event, found)

    async def _write(self, event: Object, found: Correlated) -> None:
        if found.earlier is not None:
            try:
                self._correlator.written(found.key, await self._count(found.event))
            except NotFound:
                log.debug("event %s has expired", found.earlier["metadata"]["name"])
            else:
                return
        fresh = {**found.event, "metadata": event["metadata"]}
        made = await self._client.create(EVENTS, fresh, event["metadata"]["namespace"])
        self._correlator.written(found.key, made)

    async def _count(self, wanted: Object) -> Object:
        patch = {name: wanted[name] for name in ("count", "lastTimestamp", "message")}
        meta = wanted["metadata"]
        return await self._client.patch(EVENTS, meta["name"], patch, meta["namespace"], type=STRATEGIC_PATCH)

    def _name(self, ref: Object, now: float) -> str:
        """Upstream's form: the object's name and a nanosecond stamp, made unique by counting on."""
        self._last_stamp = max(self._last_stamp + 1, int(now * 1e9))
        return f"{ref.get('name', '')}.{self._last_stamp:x}"
