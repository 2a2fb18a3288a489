"""The store, with values encrypted on their way in and decrypted once on their way to the watch cache."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from tiphys.apiserver.encryption.ciphers import Undecipherable
from tiphys.apiserver.encryption.rules import Rules
from tiphys.store.types import Event, Mismatch, Page, Row, Store, Unavailable, Watch

log = logging.getLogger(__name__)


class EncryptedStore:
    """`Store` over another one. `stale` are the keys whose values another than the first provider wrote."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store, self._rules = store, rules
        self.stale: set[str] = set()

    @property
    def shared(self) -> bool:
        return self._store.shared

    async def change(self, rules: Rules) -> None:
        """Go by other rules from now on."""
        self._rules = rules
        for row in (await self._store.list("")).rows:
            self._note(row)

    async def revision(self) -> int:
        return await self._store.revision()

    async def get(self, key: str, revision: int = 0) -> Row | None:
        row = await self._store.get(key, revision)
        return self._open(row) if row is not None else None

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        page = await self._store.list(prefix, revision=revision, after=after, limit=limit)
        if not revision:
            for row in page.rows:
                self._note(row)
        return replace(page, rows=tuple(self._open(row) for row in page.rows))

    async def put(self, key: str, value: bytes, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row:
        sealed = self._rules.of(key).encrypt(value, key.encode())
        try:
            row = await self._store.put(key, sealed, expect=expect, actor=actor, cause=cause)
        except Mismatch as error:
            raise self._mismatch(error) from error
        return replace(row, value=value)

    async def delete(self, key: str, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row | None:
        try:
            row = await self._store.delete(key, expect=expect, actor=actor, cause=cause)
        except Mismatch as error:
            raise self._mismatch(error) from error
        return self._open(row) if row is not None else None

    def watch(self, prefix: str, after: int) -> Watch:
        return self._watch(prefix, after)

    @asynccontextmanager
    async def _watch(self, prefix: str, after: int) -> AsyncIterator[AsyncIterator[tuple[Event, ...]]]:
        async with self._store.watch(prefix, after) as batches, aclosing(self._events(batches)) as events:
            yield events

    async def _events(self, batches: AsyncIterator[tuple[Event, ...]]) -> AsyncGenerator[tuple[Event, ...], None]:
        async for batch in batches:
            yield tuple([self._event(event) for event in batch])

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)

    async def size(self) -> int:
        return await self._store.size()

    async def close(self) -> None:
        await self._store.close()

    def _event(self, event: Event) -> Event:
        if event.deleted:
            self.stale.discard(event.row.key)
        else:
            self._note(event.row)
        try:
            row = event.row if event.deleted else self._open(event.row)
            return Event(row, self._open(event.previous) if event.previous is not None else None, event.deleted)
        except Unavailable:
            # One value that another server wrote with a key unknown here must not stop all others.
            log.exception("revision %d cannot be decrypted", event.row.revision)
            return event

    def _note(self, row: Row) -> None:
        if self._rules.of(row.key).fresh(row.value):
            self.stale.discard(row.key)
        else:
            self.stale.add(row.key)

    def _open(self, row: Row) -> Row:
        """Raises Unavailable for what no provider can read."""
        try:
            value = self._rules.of(row.key).decrypt(row.value, row.key.encode())
        except Undecipherable as error:
            raise Unavailable(f'unable to transform key "{row.key}": {error}') from error
        return row if value is row.value else replace(row, value=value)

    def _mismatch(self, error: Mismatch) -> Mismatch:
        return Mismatch(error.key, self._open(error.current) if error.current is not None else None)
