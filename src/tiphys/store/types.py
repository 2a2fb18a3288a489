"""The store: a revisioned, watchable log of bytes. This page is the whole seam.

Every write gets the next revision, a positive number that only grows. A key's current value, and what it was
at any revision since the last compaction, can be read; a watch delivers every write after a revision, in
order, exactly once. Keys are text like "apps/deployments/default/web"; values are bytes that the store never
looks into. Every row also keeps who wrote it (`actor`) and which write made them do it (`cause`).

Only `apiserver` and `cluster` use it. Implementations: `sqlite` (default), `memory`, `etcd`; all pass the one
suite in tests/unit/store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from tiphys.base.errors import TiphysError


class StoreError(TiphysError):
    """Base of the store's errors."""


class Mismatch(StoreError):
    """Compare-and-swap failed: `current` is the row as it is now, None if there is none. Nothing was written."""

    def __init__(self, key: str, current: Row | None) -> None:
        have = "does not exist" if current is None else f"is at revision {current.revision}"
        super().__init__(f"{key} {have}")
        self.key, self.current = key, current


class Compacted(StoreError):
    """The revision asked for is older than `oldest`, the first that is still kept."""

    def __init__(self, wanted: int, oldest: int) -> None:
        super().__init__(f"revision {wanted} was compacted, the oldest kept is {oldest}")
        self.wanted, self.oldest = wanted, oldest


class FutureRevision(StoreError):
    """The revision asked for has not been written yet."""

    def __init__(self, wanted: int, current: int) -> None:
        super().__init__(f"revision {wanted} is larger than the current revision {current}")
        self.wanted, self.current = wanted, current


class Unavailable(StoreError):
    """The store cannot be written or read now (disk full, file gone, connection lost)."""


class StoreTooLarge(StoreError):
    """The value is larger than the store takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """A key's value, the revision that wrote it and the revision that created the key."""

    key: str
    value: bytes
    revision: int
    created: int
    actor: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in key order, all as of `revision`. `remaining` counts the rows after this page (0: complete)."""

    rows: tuple[Row, ...]
    revision: int
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One write. `row.value` is empty when the key was deleted; `previous` is the row before, None on create."""

    row: Row
    previous: Row | None
    deleted: bool = False


Watch = AbstractAsyncContextManager[AsyncIterator[tuple[Event, ...]]]
"""Enter it to subscribe; iterate for batches of events in revision order; leaving it unsubscribes. A batch is never
empty."""


class Store(Protocol):
    """See the module's docstring. Methods raise Unavailable when the medium fails."""

    @property
    def shared(self) -> bool:
        """Whether other processes write to it too: what this one has seen may then be behind."""
        ...

    async def revision(self) -> int:
        """The revision of the latest write; 0 before the first one (a new store starts writing at 1)."""
        ...

    async def get(self, key: str, revision: int = 0) -> Row | None:
        """The row of `key` now, or as of `revision`. Raises Compacted, FutureRevision."""
        ...

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        """Rows whose key starts with `prefix` and is greater than `after`, at most `limit` (0: all).

        `revision` 0 means the current one. Raises Compacted, FutureRevision.
        """
        ...

    async def put(self, key: str, value: bytes, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row:
        """Write durably, return the new row. `expect` is the key's revision now, 0 for "must not exist", None
        for any. Raises Mismatch."""
        ...

    async def delete(self, key: str, *, expect: int | None = None, actor: str = "", cause: str = "") -> Row | None:
        """Remove `key` durably; returns a row whose revision is that of the deletion and whose value is the
        last one, or None if there was none and `expect` is None or 0. Raises Mismatch."""
        ...

    def watch(self, prefix: str, after: int) -> Watch:
        """Every write to keys under `prefix` with a revision greater than `after`.

        Entering raises Compacted when `after` lies before the compaction. A subscriber that falls more than
        the store's buffer behind is cut: its iteration raises Compacted.
        """
        ...

    async def compact(self, revision: int) -> None:
        """Forget superseded rows and deletions up to `revision`; current rows stay. Raises FutureRevision."""
        ...

    async def size(self) -> int:
        """Bytes on the medium."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then release the medium. Idempotent."""
        ...
