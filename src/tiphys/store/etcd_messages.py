"""etcd's v3 interface: the messages that the store sends and gets (etcd API reference, etcdserverpb and mvccpb).

Requests are functions that return bytes; answers are read into small values. What the store does not use is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.store.protobuf import data, fields, number

RANGE, TXN, COMPACT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact"
WATCH, STATUS = "/etcdserverpb.Watch/Watch", "/etcdserverpb.Maintenance/Status"

EQUAL, GREATER = 0, 1
_MOD_REVISION = 2

PROGRESS_REQUEST = data(3, b"")
"""A WatchRequest: tell how far you have come."""
STATUS_REQUEST = b""


def range_request(
    key: bytes,
    end: bytes = b"",
    *,
    revision: int = 0,
    limit: int = 0,
    keys_only: bool = False,
    count_only: bool = False,
) -> bytes:
    """Keys from `key` up to `end`, which is left out; without it only `key`."""
    out = [data(1, key)]
    if end:
        out.append(data(2, end))
    if limit:
        out.append(number(3, limit))
    if revision:
        out.append(number(4, revision))
    if keys_only:
        out.append(number(8, 1))
    if count_only:
        out.append(number(9, 1))
    return b"".join(out)


def put_request(key: bytes, value: bytes) -> bytes:
    return data(1, key) + data(2, value)


def delete_request(key: bytes) -> bytes:
    """Delete one key and tell what it was."""
    return data(1, key) + number(3, 1)


def compare(key: bytes, result: int, revision: int) -> bytes:
    """Whether the revision that last wrote `key` (0: there is none) is EQUAL to or GREATER than `revision`."""
    return number(1, result) + number(2, _MOD_REVISION) + data(3, key) + number(6, revision)


def range_op(request: bytes) -> bytes:
    return data(1, request)


def put_op(request: bytes) -> bytes:
    return data(2, request)


def delete_op(request: bytes) -> bytes:
    return data(3, request)


def txn_request(compares: Iterable[bytes], success: Iterable[bytes], failure: Iterable[bytes]) -> bytes:
    """If all `compares` hold, do `success`, else `failure`: in one step, at one revision."""
    out = [data(1, one) for one in compares]
    out += [data(2, one) for one in success]
    out += [data(3, one) for one in failure]
    return b"".join(out)


def compaction_request(revision: int) -> bytes:
    return number(1, revision)


def watch_request(key: bytes, end: bytes, start: int) -> bytes:
    """Every change of the keys from `key` up to `end` since revision `start`, with what was there before."""
    create = data(1, key) + data(2, end) + number(3, start) + number(4, 1) + number(6, 1)
    return data(1, create)


@dataclass(slots=True)
class KeyValue:
    key: bytes = b""
    value: bytes = b""
    created: int = 0
    modified: int = 0


@dataclass(slots=True)
class RangeAnswer:
    """`revision` is that of the store when it was read; `count` that of all keys in the range."""

    revision: int
    rows: list[KeyValue]
    count: int


@dataclass(slots=True)
class TxnAnswer:
    """`rows` are what the branch that was taken read, or deleted, in order."""

    revision: int
    succeeded: bool
    rows: list[KeyValue]


@dataclass(slots=True)
class Change:
    row: KeyValue
    previous: KeyValue | None
    deleted: bool


@dataclass(slots=True)
class WatchAnswer:
    """`compacted` is set when the watch asked for what is gone; `canceled` when etcd ends it."""

    revision: int
    created: bool
    canceled: bool
    compacted: int
    reason: str
    changes: list[Change]


def read_range(message: bytes) -> RangeAnswer:
    answer = RangeAnswer(0, [], 0)
    for field, value in fields(message):
        if field == 1:
            answer.revision = _header(value)
        elif field == 2:
            answer.rows.append(_key_value(value))
        elif field == 4:
            answer.count = _int(value)
    return answer


def read_txn(message: bytes) -> TxnAnswer:
    answer = TxnAnswer(0, False, [])
    for field, value in fields(message):
        if field == 1:
            answer.revision = _header(value)
        elif field == 2:
            answer.succeeded = bool(value)
        elif field == 3:
            for kind, inner in fields(_bytes(value)):
                wanted = {1: 2, 3: 3}.get(kind)  # kvs of a range, prev_kvs of a deletion
                found = fields(_bytes(inner)) if wanted else ()
                answer.rows += [_key_value(row) for number_, row in found if number_ == wanted]
    return answer


def read_watch(message: bytes) -> WatchAnswer:
    answer = WatchAnswer(0, False, False, 0, "", [])
    for field, value in fields(message):
        if field == 1:
            answer.revision = _header(value)
        elif field == 3:
            answer.created = bool(value)
        elif field == 4:
            answer.canceled = bool(value)
        elif field == 5:
            answer.compacted = _int(value)
        elif field == 6:
            answer.reason = _bytes(value).decode(errors="replace")
        elif field == 11:
            answer.changes.append(_change(_bytes(value)))
    return answer


def read_size(message: bytes) -> int:
    """Bytes that etcd's database takes, of a StatusResponse."""
    return next((_int(value) for field, value in fields(message) if field == 3), 0)


def _header(value: int | bytes) -> int:
    return next((_int(inner) for field, inner in fields(_bytes(value)) if field == 3), 0)


def _key_value(message: int | bytes) -> KeyValue:
    found = KeyValue()
    for field, value in fields(_bytes(message)):
        if field == 1:
            found.key = _bytes(value)
        elif field == 2:
            found.created = _int(value)
        elif field == 3:
            found.modified = _int(value)
        elif field == 5:
            found.value = _bytes(value)
    return found


def _change(message: bytes) -> Change:
    change = Change(KeyValue(), None, False)
    for field, value in fields(message):
        if field == 1:
            change.deleted = bool(value)
        elif field == 2:
            change.row = _key_value(value)
        elif field == 3:
            change.previous = _key_value(value)
    return change


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - a malformed message, not a caller's mistake
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"{value} is not a message")  # noqa: TRY004 - as above
    return value
