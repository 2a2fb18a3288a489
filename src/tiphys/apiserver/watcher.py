"""One watch's queue: what the cache hands out and a stream takes. Bounded: a reader that is too slow is cut.

A Watcher turns changes into events of its own selection: an object that enters the selection is ADDED, one that
leaves it is DELETED, whatever happened to it otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiphys.apiserver.entries import Change, Entry

LIMIT = 4096
"""Events that a watcher may lag behind before it is cut."""
LIMIT_BYTES = 32 << 20
"""Bytes of their objects."""

Match = Callable[["Entry"], bool]
Item = tuple[str, "Change | int"]
"""(event type, change), or ("BOOKMARK", revision)."""


class Watcher:
    """Events for one watch, from `after` on; `namespace` and `name` "" stand for all."""

    def __init__(
        self, after: int, *, namespace: str = "", name: str = "", trigger: str = "", match: Match | None = None
    ) -> None:
        self.after, self.trigger = after, trigger
        self._namespace, self._name, self._match = namespace, name, match
        self._items: list[Item] = []
        self._size = 0
        self._wake: asyncio.Future[None] | None = None
        self.closed = False

    def offer(self, change: Change) -> None:
        """Take over a change if it concerns this watch. Never blocks."""
        entry = change.entry
        if change.revision <= self.after or self.closed:
            return
        if self._namespace and entry.namespace != self._namespace:
            return
        if self._name and entry.name != self._name:
            return
        type = change.type if self._match is None else transition(change, self._match)
        if type:
            self._put((type, change))

    def bookmark(self, revision: int) -> None:
        """Tell the reader that it has seen everything up to `revision`."""
        if revision >= self.after and not self.closed:
            self._put(("BOOKMARK", revision))

    def close(self) -> None:
        """End of the watch: what is queued is still read."""
        self.closed = True
        self._rouse()

    async def next(self) -> list[Item]:
        """All that is due, at least one item; [] when the watch is over."""
        while not self._items:
            if self.closed:
                return []
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self.taken()

    def taken(self) -> list[Item]:
        """All that is due now, perhaps nothing."""
        items, self._items = self._items, []
        self._size = 0
        return items

    def _put(self, item: Item) -> None:
        change = item[1]
        self._size += 0 if isinstance(change, int) else len(change.entry.item)
        if len(self._items) >= LIMIT or (self._size > LIMIT_BYTES and self._items):
            self._items.clear()
            self.close()
            return
        self._items.append(item)
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def transition(change: Change, match: Match) -> str:
    """What a change means to a watch of a selection; "" if nothing."""
    before = change.old is not None and match(change.old)
    if change.type == "DELETED":
        return "DELETED" if before else ""
    if match(change.entry):
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""
