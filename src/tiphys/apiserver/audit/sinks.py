"""Where audit events go: a file that is rotated, a remote service; at once or in batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Protocol

import orjson

from tiphys.apiserver.audit.event import Sink
from tiphys.apiserver.audit.rotation import RotatedFile
from tiphys.apiserver.audit.settings import AuditSettings, Batching, LogSettings, WebhookSettings
from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent

log = logging.getLogger(__name__)

LAST_CHANCE = 5.0
"""Seconds that events get to leave when the server ends."""
TRUNCATED = "audit.k8s.io/truncated"
Event = dict[str, Any]


class Lines(Protocol):
    def write(self, line: bytes) -> None:
        """Raises OSError."""
        ...


class LogSink:
    """One line an event. `format` is json or legacy."""

    def __init__(self, lines: Lines, settings: LogSettings) -> None:
        self._lines, self._settings = lines, settings

    def process(self, event: Event) -> bool:
        found = fitting(event, self._settings.max_event) if self._settings.truncate else event
        if found is None:
            return True
        line = legacy(found).encode() if self._settings.format == "legacy" else orjson.dumps(found)
        try:
            self._lines.write(line + b"\n")
        except OSError as error:
            log.error("audit log %s: an event is lost: %s", self._settings.path, error)  # noqa: TRY400 - no stack needed
            return self._settings.batching.mode != "blocking-strict"
        return True


class StandardOutput:
    def write(self, line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


class BatchSink:
    """Keeps events until there are enough, or the first of them has waited long enough, and then `send`s them."""

    def __init__(self, send: Callable[[Sequence[Event]], Awaitable[None]], batching: Batching, clock: Clock) -> None:
        self._send, self._batching, self._clock = send, batching, clock
        self._waiting: deque[Event] = deque()
        self._arrived, self._full = asyncio.Event(), asyncio.Event()
        self.dropped = 0

    def process(self, event: Event) -> bool:
        if len(self._waiting) >= self._batching.buffer:
            self.dropped += 1
            log.error("audit buffer is full: an event is lost (%d so far)", self.dropped)
            return True
        self._waiting.append(event)
        self._arrived.set()
        if len(self._waiting) >= self._batching.size:
            self._full.set()
        return True

    async def run(self) -> None:
        """Send until cancelled; what waits then has one last chance."""
        try:
            while True:
                await self._arrived.wait()
                await self._enough()
                await self._flush()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_CHANCE):
                    await self._flush()

    async def _enough(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            ends = {tasks.create_task(self._full.wait()), tasks.create_task(self._clock.sleep(self._batching.wait))}
            _, late = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in late:
                task.cancel()

    async def _flush(self) -> None:
        self._arrived.clear()
        self._full.clear()
        while self._waiting:
            batch = list(islice(self._waiting, self._batching.size))
            await self._send(batch)
            # Only now: who is cancelled while it sends must rather say something twice than not at all.
            for _ in batch:
                self._waiting.popleft()


class Fanout:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def process(self, event: Event) -> bool:
        answers = [sink.process(event) for sink in self._sinks]  # all of them get it, whatever the others say
        return all(answers)


@contextlib.asynccontextmanager
async def opened(settings: AuditSettings, clock: Clock) -> AsyncIterator[Sink]:
    """The sinks that are configured, while the context lasts. Raises Permanent."""
    async with contextlib.AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        sinks: list[Sink] = []
        if settings.log is not None:
            sinks.append(_log_sink(settings.log, stack, tasks, clock))
        if settings.webhook is not None:
            sinks.append(_webhook_sink(settings.webhook, stack, tasks, clock))
        yield sinks[0] if len(sinks) == 1 else Fanout(sinks)


def _log_sink(settings: LogSettings, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup, clock: Clock) -> Sink:
    try:
        lines: Lines = StandardOutput() if settings.path == "-" else RotatedFile(settings, clock)
    except OSError as error:
        raise Permanent(f"--audit-log-path {settings.path}: {error.strerror}") from error
    if isinstance(lines, RotatedFile):
        stack.callback(lines.close)
    sink = LogSink(lines, settings)
    if settings.batching.mode != "batch":
        return sink

    async def write(events: Sequence[Event]) -> None:
        for event in events:
            sink.process(event)

    return _batched(write, settings.batching, stack, tasks, clock)


def _webhook_sink(
    settings: WebhookSettings, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup, clock: Clock
) -> Sink:
    from tiphys.apiserver.reviewer import Patience, RemoteReviewer, ReviewFailed

    reviewer = RemoteReviewer(settings.kubeconfig, clock, Patience(first=settings.first_wait))
    stack.push_async_callback(reviewer.close)

    async def send(events: Sequence[Event]) -> None:
        found = [fitting(event, settings.max_event) for event in events] if settings.truncate else events
        items = [event for event in found if event is not None]
        document = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}
        try:
            await reviewer.post(document)
        except ReviewFailed as error:
            log.error("audit webhook: %d events are lost: %s", len(items), error)  # noqa: TRY400 - no stack needed

    batching = settings.batching
    if batching.mode != "batch":  # a request cannot wait for a far service in this server: its events go one by one
        batching = Batching(batching.mode, batching.buffer, 1, 0.0)
    return _batched(send, batching, stack, tasks, clock)


def _batched(
    send: Callable[[Sequence[Event]], Awaitable[None]],
    batching: Batching,
    stack: contextlib.AsyncExitStack,
    tasks: asyncio.TaskGroup,
    clock: Clock,
) -> Sink:
    sink = BatchSink(send, batching, clock)
    task = tasks.create_task(sink.run(), name="audit batches")
    stack.callback(task.cancel)
    return sink


def fitting(event: Event, limit: int) -> Event | None:
    """The event, without its objects if it is larger than `limit` bytes; None if even that is too large."""
    if len(orjson.dumps(event)) <= limit:
        return event
    smaller = {key: value for key, value in event.items() if key not in ("requestObject", "responseObject")}
    smaller["annotations"] = {**event.get("annotations", {}), TRUNCATED: "true"}
    if len(orjson.dumps(smaller)) <= limit:
        return smaller
    log.error("audit event %s is larger than %d bytes and is lost", event.get("auditID"), limit)
    return None


def legacy(event: Event) -> str:
    """The line of --audit-log-format=legacy."""
    user, other = event.get("user", {}), event.get("impersonatedUser")
    groups = _quoted(user.get("groups", ())) or "<none>"
    as_user = other.get("username", "") if other else "<self>"
    as_groups = _quoted(other["groups"]) if other and other.get("groups") else "<lookup>"
    code = (event.get("responseStatus") or {}).get("code")
    fields = {
        "id": event["auditID"],
        "stage": event["stage"],
        "ip": (event.get("sourceIPs") or ["<unknown>"])[0],
        "method": event["verb"],
        "user": user.get("username") or "<none>",
        "groups": groups,
        "as": as_user,
        "asgroups": as_groups,
        "user-agent": event.get("userAgent", ""),
        "namespace": (event.get("objectRef") or {}).get("namespace") or "<none>",
        "uri": event["requestURI"],
        "response": "<deferred>" if code is None else str(code),
    }
    return f"{event['requestReceivedTimestamp']} AUDIT: " + " ".join(f"{k}={_quote(v)}" for k, v in fields.items())


def _quoted(items: Sequence[str]) -> str:
    return ",".join(_quote(item) for item in items)


def _quote(text: str) -> str:
    """As Go's %q: what a client sent cannot end the line or the field."""
    from tiphys.api.kinds.base import quote

    return quote(text)
