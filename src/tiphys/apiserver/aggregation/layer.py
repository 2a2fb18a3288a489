"""The parts of the aggregation layer, put together for one server."""

from __future__ import annotations

import asyncio

from tiphys.apiserver.aggregation.availability import Availability
from tiphys.apiserver.aggregation.discovery import Described
from tiphys.apiserver.aggregation.registration import Registration
from tiphys.apiserver.aggregation.remotes import Remotes
from tiphys.apiserver.defaults import DefaultsWriter
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.serving import Serving
from tiphys.base.tls import KeyPair


class Aggregation:
    """`pair` is the certificate by which other servers know this one; without it they hear of no users."""

    def __init__(self, parts: Parts, serving: Serving, pair: KeyPair | None) -> None:
        self._parts, self._serving = parts, serving
        self.remotes = Remotes(parts.caches, parts.webhooks.resolver, pair)
        self.described = Described()

    async def run(self, writer: DefaultsWriter) -> None:
        """Until cancelled."""
        parts = self._parts
        availability = Availability(
            self.remotes, self.described, parts.caches, parts.timers, writer.update, parts.clock
        )
        registration = Registration(self._serving, parts.caches, writer.create, writer.delete, parts.clock)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(availability.run())
                group.create_task(registration.run())
        finally:
            await self.remotes.close()
