"""Names outside the cluster: asked of the node's own servers, remembered for a short time.

The same question is under way only once, however many ask it: a server that leads back here therefore cannot multiply
it. Whether one does is found out with the first question to it, by a name that nobody else can know.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.base.clock import Clock
from tiphys.dns.cache import Cache, Key
from tiphys.dns.exchange import Asked, NoAnswer, Sockets, ask
from tiphys.dns.names import from_labels
from tiphys.dns.upstreams import Server, Upstreams
from tiphys.dns.wire import HINFO, IN, RD, REFUSED, SERVFAIL, Message

log = logging.getLogger(__name__)

MAX_CONCURRENT = 1000
"""Questions under way; more are refused (`max_concurrent` of kubeadm's CoreDNS)."""
PATIENCE = 8.0
"""Seconds for all servers together: resolvers have given up by then."""


@dataclass(slots=True)
class Counts:
    """For metrics."""

    asked: int = 0
    failed: int = 0
    refused: int = 0


class Forwarder:
    """See the module's docstring. `tasks` runs what goes on when whoever asked has gone; `limit` is of questions."""

    def __init__(
        self,
        upstreams: Upstreams,
        sockets: Sockets,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        limit: int = MAX_CONCURRENT,
    ) -> None:
        self.upstreams, self.cache, self.counts = upstreams, Cache(), Counts()
        self.is_ours: Callable[[Server], bool] = lambda server: False
        """Whether asking that server would be asking ourselves."""
        self._sockets, self._clock, self._tasks, self._limit = sockets, clock, tasks, limit
        self._under_way: dict[Key, asyncio.Task[Message]] = {}
        self._probed: dict[Server, bytes] = {}
        """The name by which a server's way back here would be seen."""

    def known(self, asked: Asked) -> Message | None:
        """The answer, if it is remembered."""
        return self.cache.get(_key(asked), self._clock.monotonic())

    async def resolve(self, asked: Asked) -> Message:
        """The answer of a server, or one that says what went wrong."""
        key = _key(asked)
        running = self._under_way.get(key)
        if running is None:
            if len(self._under_way) >= self._limit:
                self.counts.refused += 1
                return _own(asked, REFUSED)
            running = self._tasks.create_task(self._ask_all(asked), name="dns question")
            self._under_way[key] = running
            running.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(running)

    def comes_back(self, name: bytes) -> bool:
        """Whether a question that was asked here is one of ours that found its way back."""
        for server, probe in self._probed.items():
            if probe == name:
                if self.upstreams.leads_back(server):
                    log.error("name server %s asks this server in turn: it is not used", server)
                return True
        return False

    def replace(self, servers: tuple[Server, ...]) -> None:
        """Ask other servers from now on."""
        if self.upstreams.replace(servers):
            log.info("names outside the cluster are asked of %s", ", ".join(map(str, servers)) or "nobody")
            self.cache.clear()
            self._probed.clear()

    async def _ask_all(self, asked: Asked) -> Message:
        try:
            return await self._ask_each(asked)
        except Exception:  # what one server says must not end everybody's names
            log.exception("a name server's answer made no sense")
            return _own(asked, SERVFAIL)

    async def _ask_each(self, asked: Asked) -> Message:
        answer = None
        try:
            async with asyncio.timeout(PATIENCE):
                for server in self.upstreams.order(self._clock.monotonic()):
                    answer = await self._ask_one(server, asked) or answer
                    if answer is not None and answer.rcode not in (SERVFAIL, REFUSED):
                        break
        except TimeoutError:
            log.debug("no server answered in time")
        if answer is None:
            return _own(asked, SERVFAIL)
        return self.cache.put(_key(asked), answer, self._clock.monotonic())

    async def _ask_one(self, server: Server, asked: Asked) -> Message | None:
        if self.is_ours(server):
            if self.upstreams.leads_back(server):
                log.error("name server %s is this cluster's own: it is not used", server)
            return None
        if server not in self._probed:
            name = self._probed[server] = _probe_name()
            self._tasks.create_task(self._probe(server, name), name="dns loop probe")
        self.counts.asked += 1
        try:
            answer = await ask(self._sockets, server, asked)
        except NoAnswer as error:
            log.debug("no answer: %s", error)
            self.counts.failed += 1
            self.upstreams.failed(server, self._clock.monotonic())
            return None
        self.upstreams.answered(server)
        return answer

    async def _probe(self, server: Server, name: bytes) -> None:
        wire = name + HINFO.to_bytes(2, "big") + IN.to_bytes(2, "big")
        try:
            await ask(self._sockets, server, Asked(wire, name, HINFO, IN, RD, False))
        except NoAnswer:
            return
        except Exception:  # as above
            log.exception("a name server's answer made no sense")


def _probe_name() -> bytes:
    """As CoreDNS' loop plugin asks: nobody has it, and nobody can guess it."""
    return from_labels(str(secrets.randbits(62)).encode() for _ in range(2))


def _key(asked: Asked) -> Key:
    return Key(asked.name, asked.type, asked.class_, asked.flags, asked.dnssec)


def _own(asked: Asked, rcode: int) -> Message:
    return Message(0, 0, rcode, (asked.name, asked.type, asked.class_))
