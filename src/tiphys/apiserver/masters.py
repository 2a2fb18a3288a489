"""Which API servers share a store: the endpoints of the Service default/kubernetes are all that live.

Each says every ten seconds that it is there, under a key of its own; one that has been silent for longer than that and
half again is gone (upstream's lease endpoint reconciler). A server that has its store for itself needs none of this.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import orjson

from tiphys.base.clock import Clock
from tiphys.store.types import Store, StoreError

log = logging.getLogger(__name__)

PREFIX = "masterleases/"
INTERVAL, LIFETIME = 10.0, 15.0
"""Seconds."""
ACTOR = "system:apiserver"
Server = tuple[str, int]
"""Address and port."""


class Masters:
    """`own` is where this server is reached."""

    def __init__(self, store: Store, clock: Clock, own: Server) -> None:
        self._store, self._clock, self._own = store, clock, own
        self._key = f"{PREFIX}{own[0]}:{own[1]}"
        self._known: tuple[Server, ...] = ()

    async def renew(self) -> tuple[Server, ...]:
        """Say that this one lives; returns all that do, in order. Raises StoreError."""
        if not self._store.shared:
            return (self._own,)
        now = self._clock.time()
        address, port = self._own
        body = orjson.dumps({"address": address, "port": port, "renewed": now})
        await self._store.put(self._key, body, actor=ACTOR, cause="lease")
        alive = []
        for row in (await self._store.list(PREFIX)).rows:
            found = orjson.loads(row.value)
            if found["renewed"] > now - LIFETIME:
                alive.append((found["address"], found["port"]))
            else:
                await self._store.delete(row.key, actor=ACTOR, cause="expired")
        self._known = tuple(sorted(alive))
        return self._known

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled; `changed` is called when servers have come or gone. Then this one is gone."""
        if not self._store.shared:
            return
        try:
            while True:
                await self._clock.sleep(INTERVAL)
                before = self._known
                try:
                    if await self.renew() != before:
                        await changed()
                except StoreError as error:
                    log.warning("the servers' leases cannot be renewed: %s", error)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        try:
            await self._store.delete(self._key, actor=ACTOR, cause="shutdown")
        except StoreError as error:
            log.warning("this server's lease runs out by itself: %s", error)
