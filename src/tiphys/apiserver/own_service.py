"""Keeps the Service default/kubernetes and its endpoints, by which pods reach the API server, as they must be.

What somebody deletes is back at once; what somebody changes is put right ten seconds later, as often as upstream looks:
servers that are told differently do not change it to and fro in a hurry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.watcher import Watcher
from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError

log = logging.getLogger(__name__)

RESOURCES = (("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices"))
INTERVAL = 10.0
"""Seconds."""


class OwnService:
    """`restore` creates what is missing of the default objects and puts right what must be as it is. It hears of all
    that happens after it was made."""

    def __init__(self, caches: Caches, restore: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._restore, self._clock = restore, clock
        self._watches = [(cache, _watch(cache)) for cache in (caches.of(*resource) for resource in RESOURCES)]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache, watcher in self._watches:
                group.create_task(self._follow(cache, watcher))

    async def _follow(self, cache: ResourceCache, watcher: Watcher) -> None:
        while True:
            try:
                while items := await watcher.next():
                    await self._keep({type for type, _ in items})
                watcher = _watch(cache)  # it was cut; what happened since is found by looking
                await self._restore()
            except (TiphysError, ExceptionGroup) as error:  # `restore` writes several objects at once
                log.warning("the Service default/kubernetes could not be kept up: %s", error)
                await self._clock.sleep(INTERVAL)
                watcher.close()

    async def _keep(self, kinds: set[str]) -> None:
        if "DELETED" in kinds:
            await self._restore()
        elif "MODIFIED" in kinds:
            await self._clock.sleep(INTERVAL)
            await self._restore()


def _watch(cache: ResourceCache) -> Watcher:
    watcher = Watcher(cache.last_revision, namespace="default", name="kubernetes")
    cache.subscribe(watcher)
    return watcher
