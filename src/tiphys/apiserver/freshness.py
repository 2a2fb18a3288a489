"""The most recent state where several API servers write to one store.

A request without a resourceVersion sees every write that was acknowledged before it, by whichever server (API
reference, "Resource versions"; KEP-2340). So such a request first asks the store how far it is, by one small read that
all requests which came in meanwhile share, and waits until the caches of this server are there. A store that nobody
else writes to needs none of this: the caches hold every acknowledged write, and the link is left out of the chain.
"""

from __future__ import annotations

import asyncio

from tiphys.apiserver.feed import Caches
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import ServiceUnavailable
from tiphys.base.http.types import Handler, Middleware, Request, Response
from tiphys.store.types import Store, StoreError, Unavailable

WAIT_SECONDS = 3.0
"""How long a request waits for the caches, as upstream for any version that they do not have yet."""
READS = ("get", "list", "watch")


class Freshness:
    """See the module's docstring. `run()` for as long as the server lives."""

    def __init__(self, store: Store, caches: Caches) -> None:
        self._store, self._caches = store, caches
        self._waiting: list[asyncio.Future[int]] = []
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Answer all who wait by one read, again and again, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            try:
                revision = await self._store.revision()
            except StoreError as error:
                for future in waiting:
                    if not future.done():
                        future.set_exception(Unavailable(str(error)))
                continue
            for future in waiting:
                if not future.done():
                    future.set_result(revision)

    async def reach(self) -> None:
        """Return when the caches show all that was written before this call. Raises Unavailable, ServiceUnavailable."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._asked.set()
        revision = await future
        if not await self._caches.wait(revision, WAIT_SECONDS):
            text = f"the watch cache is at {self._caches.current}, the store at {revision}"
            raise ServiceUnavailable(text, retry_after=1)

    def link(self, handler: Handler) -> Handler:
        """The link of the handler chain."""

        async def fresh(request: Request) -> Response:
            if wants_the_present(request, request.attributes["info"]):
                await self.reach()
            return await handler(request)

        return fresh


def wants_the_present(request: Request, info: RequestInfo) -> bool:
    """Whether a request may not be answered from a cache that is behind: all but reads that name a version."""
    if not info.resource_request:
        return False
    return info.verb not in READS or "resourceVersion=" not in request.query_string


def links(freshness: Freshness | None) -> list[Middleware]:
    """The links that a server needs: none without other writers."""
    return [] if freshness is None else [freshness.link]
