"""The store in etcd v3: for clusters with several API servers, and for those who have an etcd already.

A key is PREFIX/key. A value is one line of JSON, ["actor","cause"], and then the bytes: `etcdctl get` shows it as it
is. Every write also puts the key PREFIX.head in the same transaction. Its revision is that of the last write by
anybody, so one small read tells how far a cache has to be; its value names who deleted what was deleted, which etcd
itself does not keep. Revisions are etcd's own: they grow, but not by one where others use the same etcd.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tiphys.store.etcd_connection import CompactedInEtcd, EtcdConfig, EtcdConnection, FutureInEtcd
from tiphys.store.etcd_messages import (
    COMPACT,
    EQUAL,
    GREATER,
    RANGE,
    STATUS,
    STATUS_REQUEST,
    TXN,
    KeyValue,
    RangeAnswer,
    TxnAnswer,
    compaction_request,
    compare,
    delete_op,
    delete_request,
    put_op,
    put_request,
    range_op,
    range_request,
    read_range,
    read_size,
    read_txn,
    txn_request,
)
from tiphys.store.etcd_watch import EtcdWatch
from tiphys.store.types import Compacted, FutureRevision, Mismatch, Page, Row, Unavailable, Watch
from tiphys.store.writes import Write, check, successor

PIECE = 1000
"""Rows read at a time: a list of any length is read at one revision, in pieces."""


class EtcdStore:
    """`Store` in etcd. Use it from one event loop."""

    shared = True

    def __init__(self, config: EtcdConfig) -> None:
        self.config = config
        self.layout = Layout(config.prefix)
        self.connection = EtcdConnection(config)
        self.written = 0
        """Revision of the last write that was acknowledged here."""
        self.closed = False
        self.watches: set[EtcdWatch] = set()

    async def revision(self) -> int:
        """The revision of the last write by any server: a read that a majority of etcd's members agrees to."""
        answer = await self._range(range_request(self.layout.head, keys_only=True))
        return answer.rows[0].modified if answer.rows else 0

    async def get(self, key: str, revision: int = 0) -> Row | None:
        answer = await self._range(range_request(self.layout.of(key), revision=revision), revision)
        return self.layout.row(answer.rows[0]) if answer.rows else None

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        start, end = self.layout.span(prefix)
        start = max(start, self.layout.of(after) + b"\0") if after else start
        rows: list[Row] = []
        remaining = 0
        if start >= end and revision:
            # Nothing to ask for, but whether there is such a revision any more.
            await self._range(range_request(self.layout.head, revision=revision), revision)
        while start < end:
            piece = min(PIECE, limit - len(rows)) if limit else PIECE
            answer = await self._range(range_request(start, end, revision=revision, limit=piece), revision)
            revision = revision or answer.revision
            rows += [self.layout.row(found) for found in answer.rows]
            remaining = answer.count - len(answer.rows)
            if not remaining or len(rows) == limit:
                break
            start = answer.rows[-1].key + b"\0"
        return Page(tuple(rows), revision or await self.revision(), remaining)

    async def put(self, key: str, value: bytes, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row:
        write = check(Write(key, value, expect, actor, cause))
        where = self.layout.of(key)
        success = [
            put_op(put_request(where, self.layout.envelope(actor, cause) + value)),
            put_op(put_request(self.layout.head, b"")),
        ]
        if expect != 0:
            success.append(range_op(range_request(where, keys_only=True)))
        compares = [] if expect is None else [compare(where, EQUAL, expect)]
        answer = await self._txn(write, compares, success)
        created = answer.rows[0].created if answer.rows else answer.revision
        return Row(key, value, answer.revision, created, actor, cause)

    async def delete(self, key: str, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row | None:
        write = check(Write(key, None, expect, actor, cause))
        where, wanted = self.layout.of(key), expect or 0
        compares = [compare(where, EQUAL if expect is not None else GREATER, wanted)]
        success = [
            delete_op(delete_request(where)),
            put_op(put_request(self.layout.head, self.layout.envelope(actor, cause))),
        ]
        answer = await self._txn(write, compares, success if expect != 0 else [])
        if not answer.succeeded or not answer.rows:
            return None
        last = self.layout.row(answer.rows[0])
        return Row(key, last.value, answer.revision, last.created, actor, cause)

    def watch(self, prefix: str, after: int) -> Watch:
        return EtcdWatch(self, prefix, after)

    async def compact(self, revision: int) -> None:
        """As in `Store`. It concerns the whole etcd: others who use it lose their history as well."""
        if revision <= 0:
            return
        try:
            await self._connection.write(COMPACT, compaction_request(revision))
        except CompactedInEtcd:
            return  # another server was faster
        except FutureInEtcd:
            raise FutureRevision(revision, await self.revision()) from None

    async def size(self) -> int:
        return read_size(await self._connection.read(STATUS, STATUS_REQUEST))

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for watch in tuple(self.watches):
            await watch.end()
        await self.connection.close()

    async def check_kept(self, revision: int) -> None:
        """Raises Compacted when the history no longer reaches back to `revision`."""
        try:
            await self._range(range_request(self.layout.head, revision=max(revision, 1), count_only=True), revision)
        except FutureRevision:
            return

    @property
    def _connection(self) -> EtcdConnection:
        if self.closed:
            raise Unavailable("the store is closed")
        return self.connection

    async def _range(self, request: bytes, revision: int = 0) -> RangeAnswer:
        try:
            return read_range(await self._connection.read(RANGE, request))
        except CompactedInEtcd:
            raise Compacted(revision, revision + 1) from None
        except FutureInEtcd:
            raise FutureRevision(revision, await self.revision()) from None

    async def _txn(self, write: Write, compares: Sequence[bytes], success: Sequence[bytes]) -> TxnAnswer:
        """Raises Mismatch when a comparison that the writer asked for fails."""
        failure = [range_op(range_request(self.layout.of(write.key)))]
        answer = read_txn(await self._connection.write(TXN, txn_request(compares, success, failure)))
        if answer.succeeded:
            self.written = max(self.written, answer.revision if success else 0)
        elif write.expect is not None:
            raise Mismatch(write.key, self.layout.row(answer.rows[0]) if answer.rows else None)
        return answer


class Layout:
    """How keys and values of the store stand in etcd under a prefix."""

    def __init__(self, prefix: str) -> None:
        stem = "/" + prefix.strip("/")
        self.head = f"{stem}.head".encode()
        """Its revision is that of the last write, its value the author of a deletion."""
        self.all = (self.head, f"{stem}0".encode())
        """The span of all keys and the head: `.` and `/` and `0` follow each other."""
        self._root = f"{stem}/"
        self._length = len(self._root.encode())

    def of(self, key: str) -> bytes:
        return (self._root + key).encode()

    def span(self, prefix: str) -> tuple[bytes, bytes]:
        """The first key that may start with `prefix`, and the end of those that do."""
        return self.of(prefix), (successor(self._root + prefix) or "").encode()

    def key(self, found: KeyValue) -> str:
        """The key of the store."""
        return found.key[self._length :].decode()

    def row(self, found: KeyValue) -> Row:
        """Raises Unavailable for a value that was not written by an `EtcdStore`."""
        actor, cause, value = self.open(found)
        return Row(self.key(found), value, found.modified, found.created, actor, cause)

    def open(self, found: KeyValue) -> tuple[str, str, bytes]:
        """(actor, cause, value)"""
        line, newline, value = found.value.partition(b"\n")
        if line == _NOBODY and newline:
            return "", "", value
        try:
            actor, cause = json.loads(line if newline else b"")
        except (ValueError, TypeError) as error:
            name = found.key.decode(errors="replace")
            raise Unavailable(f"etcd: {name} was not written by Tiphys; choose another --etcd-prefix") from error
        return actor, cause, value

    @staticmethod
    def envelope(actor: str, cause: str) -> bytes:
        return json.dumps([actor, cause], separators=(",", ":")).encode() + b"\n" if actor or cause else _NOBODY + b"\n"


_NOBODY = b'["",""]'
