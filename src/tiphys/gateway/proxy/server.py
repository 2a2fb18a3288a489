"""The proxy: its connections, its backends, the time that passes for them, and the little work beside requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from functools import cache

from tiphys.base.clock import Clock
from tiphys.base.tls import client_context
from tiphys.gateway import htpasswd
from tiphys.gateway.decide import Check, Way, World
from tiphys.gateway.model import BasicAuth, Mirror
from tiphys.gateway.proxy import forwarding
from tiphys.gateway.proxy.backends import Backends
from tiphys.gateway.proxy.clientside import ClientSide
from tiphys.gateway.proxy.exchange import Exchange
from tiphys.gateway.proxy.forwarding import Client
from tiphys.gateway.proxy.heads import MAX_HEAD, RequestHead
from tiphys.gateway.proxy.upstream import connected

log = logging.getLogger(__name__)
access = logging.getLogger("tiphys.gateway.access")

TICK = 1.0
"""Seconds between looks at deadlines, while there is any connection."""
_KNOWN = 4096
_MIRRORS = 256
"""Copies of requests on their way at once; more are dropped."""
_MIRROR_SECONDS = 10.0


class Proxy:
    """Made by `running`."""

    def __init__(self, group: asyncio.TaskGroup, clock: Clock) -> None:
        self.loop = asyncio.get_running_loop()
        self._group = group
        self._clock = clock
        self.backends = Backends()
        self.world = World(self.backends, self._known, random.random)
        self.access_log = False
        self._clients: dict[ClientSide, None] = {}
        self._occupied = asyncio.Event()
        self._passwords: OrderedDict[bytes, bool] = OrderedDict()
        self._mirrors = 0

    @property
    def clients(self) -> tuple[ClientSide, ...]:
        """The connections that are there."""
        return tuple(self._clients)

    def adopt(self, client: ClientSide) -> None:
        self._clients[client] = None
        self._occupied.set()

    def forget(self, client: ClientSide) -> None:
        self._clients.pop(client, None)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        self._group.create_task(_guarded(work), name="gateway work")

    @staticmethod
    @cache
    def backend_tls() -> ssl.SSLContext:
        """Endpoints' certificates name no addresses of pods: they are not verified, as in ingress-nginx."""
        return client_context(verify=False)

    # Passwords

    def _known(self, auth: BasicAuth, header: str) -> bool | None:
        return self._passwords.get(auth.digest(header))

    async def check(self, check: Check) -> None:
        """Look at a password in a thread, since good hashes take their time, and remember the outcome."""
        users = check.auth.users or {}
        fits = await self.loop.run_in_executor(None, htpasswd.permitted, users, check.header)
        self._passwords[check.auth.digest(check.header)] = fits
        while len(self._passwords) > _KNOWN:
            self._passwords.popitem(last=False)

    # Mirrors

    def mirror(self, way: Way, head: RequestHead, who: Client, request_id: str) -> None:
        """Copies of a request, without its body, whose answers nobody waits for."""
        for each in way.mirrors:
            if self._mirrors < _MIRRORS:
                self._mirrors += 1
                self.spawn(self._mirror(each, way, head, who, request_id))

    async def _mirror(self, mirror: Mirror, way: Way, head: RequestHead, who: Client, request_id: str) -> None:
        try:
            endpoints = self.backends.of(mirror.target.key) if mirror.target.key else ()
            if not endpoints:
                return
            data = forwarding.request_head(
                head, who, target=way.path, host=way.host, request_id=request_id, length=None, chunked=False,
                upgrade=False, changes=way.filters.request,
            )  # fmt: skip
            async with asyncio.timeout(_MIRROR_SECONDS):
                backend = await connected(endpoints[0], None, "", _MIRROR_SECONDS)
                drain = _Drain(self.loop)
                try:
                    backend.ask(drain, data)
                    await drain.done
                finally:
                    backend.abort()
        except OSError as error:
            log.info("%s: a mirrored request was lost: %s", way.route.source, error)
        finally:
            self._mirrors -= 1

    # Logs

    def log_exchange(self, client: ClientSide, exchange: Exchange, started: float) -> None:
        if self.access_log:
            self._log(client, exchange.head, exchange.status, exchange.sent, started, exchange.way.route.source)

    def log_answer(self, client: ClientSide, head: RequestHead, status: int, started: float) -> None:
        if self.access_log:
            self._log(client, head, status, 0, started, "-")

    def _log(self, client: ClientSide, head: RequestHead, status: int, sent: int, started: float, source: str) -> None:
        seconds = self.loop.time() - started
        access.info(
            '%s "%s %s" %s %d %d %.3f %s',
            client.who.address, head.method, head.path, head.host, status, sent, seconds, source,
        )  # fmt: skip

    # Time

    async def sweep(self) -> None:
        """Look at deadlines while there is any connection; idle it does not wake up at all."""
        while True:
            await self._occupied.wait()
            await self._clock.sleep(TICK)
            for client in tuple(self._clients):
                try:
                    client.tick(TICK)
                except Exception:
                    log.exception("a connection failed and is closed")
                    client.wire.abort()
            self.backends.tick(TICK)
            if not self._clients and self.backends.idle:
                self._occupied.clear()

    async def drain(self, seconds: float) -> None:
        """Let requests that run end."""
        for client in tuple(self._clients):
            client.drain()
        waited = 0.0
        while self._clients and waited < seconds:
            await self._clock.sleep(0.05)
            waited += 0.05
        for client in tuple(self._clients):
            client.wire.abort()
        self.backends.close()


class _Drain:
    """Waits for the end of an answer's first piece: a mirror's answer is of no interest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._head = b""

    def from_backend(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > MAX_HEAD:
            self.backend_lost()

    def backend_ended(self) -> None:
        self.backend_lost()

    def backend_lost(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _guarded(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("work of a request failed")


@contextlib.asynccontextmanager
async def running(clock: Clock, grace: float = 5.0) -> AsyncIterator[Proxy]:
    """A proxy without fronts yet. Leaving drains it for `grace` seconds."""
    async with asyncio.TaskGroup() as group:
        proxy = Proxy(group, clock)
        sweeper = group.create_task(proxy.sweep(), name="gateway deadlines")
        try:
            yield proxy
        finally:
            await proxy.drain(grace)
            sweeper.cancel()
