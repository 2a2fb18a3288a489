"""What other servers answered, for as long as they allow (RFC 2308), half a minute at most. Pure: time is handed in.

`cache 30` of kubeadm's CoreDNS: a laptop that changes networks must not live long with what the last one said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from tiphys.dns.wire import NOERROR, NXDOMAIN, SERVFAIL, SOA, Message, Record

LONGEST = 30
"""Seconds that an answer is kept, and the highest TTL that is told."""
FAILED = 5
"""Seconds for which a server's failure is believed."""
MAX_ENTRIES = 10_000
MAX_BYTES = 8 << 20
_OVERHEAD = 300
"""Bytes that a record costs besides what is in it."""


class Key(NamedTuple):
    """What makes answers differ."""

    name: bytes
    type: int
    class_: int
    flags: int
    """RD and CD of the question."""
    dnssec: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    message: Message
    since: float
    until: float
    size: int


class Cache:
    """Answers by question. Times are seconds of a monotonic clock."""

    def __init__(self, entries: int = MAX_ENTRIES, size: int = MAX_BYTES) -> None:
        self._max_entries, self._max_size = entries, size
        self._entries: dict[Key, _Entry] = {}
        self._size = 0
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Message | None:
        """The answer with the TTLs that are left; None if there is none any more."""
        entry = self._entries.get(key)
        if entry is None or entry.until <= now:
            self.misses += 1
            if entry is not None:
                self._remove(key)
            return None
        self.hits += 1
        return aged(entry.message, int(now - entry.since), int(entry.until - entry.since))

    def put(self, key: Key, message: Message, now: float) -> Message:
        """Keep what may be kept, and return it with the TTLs that are told; the oldest go when there are too many."""
        seconds = lifetime(message)
        if seconds <= 0:
            return message
        self._remove(key)
        records = (*message.answers, *message.authority, *message.additional)
        size = _OVERHEAD + sum(_OVERHEAD + len(each.name) + len(each.data) for each in records)
        self._entries[key] = _Entry(message, now, now + seconds, size)
        self._size += size
        while len(self._entries) > self._max_entries or self._size > self._max_size:
            self._remove(next(iter(self._entries)))
        return aged(message, 0, seconds)

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size


def lifetime(message: Message) -> int:
    """Seconds for which an answer holds; 0: it must not be kept."""
    if message.rcode == SERVFAIL:
        return FAILED
    if message.rcode not in (NOERROR, NXDOMAIN):
        return 0
    if message.rcode == NXDOMAIN or not message.answers:
        bounds = [_negative(each) for each in message.authority if each.type == SOA]
        bounds += [each.ttl for each in message.answers]
        return min(LONGEST, *bounds) if any(each.type == SOA for each in message.authority) else 0
    return min(LONGEST, *(each.ttl for each in message.answers))


def _negative(soa: Record) -> int:
    """How long something does not exist: the last number of the SOA record, or its TTL (RFC 2308, section 5)."""
    return min(soa.ttl, int.from_bytes(soa.data[-4:], "big"))


def aged(message: Message, age: int, longest: int) -> Message:
    """The same, told `age` seconds later; no TTL is above `longest` less that age."""
    left = max(0, longest - age)
    return replace(
        message,
        answers=_aged(message.answers, left),
        authority=_aged(message.authority, left),
        additional=_aged(message.additional, left),
    )


def _aged(records: tuple[Record, ...], left: int) -> tuple[Record, ...]:
    return tuple(record if record.ttl <= left else record._replace(ttl=left) for record in records)
