"""One write and what it does to a key: the compare-and-swap rule, without any medium.

Both stores decide by `apply`, so that they cannot disagree about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tiphys.base.errors import TiphysError
from tiphys.store.types import Event, Mismatch, Row


@dataclass(slots=True)
class Write:
    """A put, or a delete when `value` is None; `expect` as in `Store.put`."""

    key: str
    value: bytes | None
    expect: int | None
    actor: str
    cause: str
    future: asyncio.Future[Row | None] | None = None


Outcome = Event | TiphysError | None
"""What became of a write: its event, its error, or None for a delete of nothing."""


def apply(write: Write, current: Row | None, revision: int) -> Event | None:
    """The event that `write` makes of `current` at `revision`; None if there is nothing to delete. Raises Mismatch."""
    have = current.revision if current is not None else 0
    if write.expect is not None and write.expect != have:
        raise Mismatch(write.key, current)
    if write.value is not None:
        created = current.created if current is not None else revision
        return Event(Row(write.key, write.value, revision, created, write.actor, write.cause), current)
    if current is None:
        return None
    return Event(Row(write.key, b"", revision, current.created, write.actor, write.cause), current, deleted=True)


def result(event: Event | None) -> Row | None:
    """What the writer gets back: the new row, or the deleted one with its last value."""
    if event is None or not event.deleted or event.previous is None:
        return event.row if event is not None else None
    return replace(event.row, value=event.previous.value)


def settle(writes: Iterable[Write], outcomes: Iterable[Outcome]) -> None:
    """Resolve the writers' futures; a writer that was cancelled meanwhile is passed over."""
    for write, outcome in zip(writes, outcomes, strict=True):
        future = write.future
        if future is None or future.done():
            continue
        if isinstance(outcome, TiphysError):
            future.set_exception(outcome)
        else:
            future.set_result(result(outcome))


def check(write: Write) -> Write:
    """`write`, if it can be stored. A key is text, not empty, without NUL (SQLite's text functions end there).

    Raises ValueError, also for lone surrogates (which have no UTF-8).
    """
    if not write.key or "\0" in write.key:
        raise ValueError(f"{write.key!r} is not a store key: it is empty or holds a NUL character")
    for text in (write.key, write.actor, write.cause):
        if not text.isascii():
            text.encode()
    return write


def successor(prefix: str) -> str | None:
    """The first text after all that start with `prefix`, in code point order; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    point = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if 0xD800 <= point <= 0xDFFF else point)
