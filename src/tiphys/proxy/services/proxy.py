"""The Service proxy: watches Services and EndpointSlices and keeps the kernel's tables as they ask.

A change goes to the kernel at once; those that come while the kernel is busy, or in a long burst, go together. Rules
stay when the process ends, and the next one changes only what differs. Connections live in the kernel and notice
nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.base.clock import Clock
from tiphys.base.nftables import Nftables, NftablesError
from tiphys.base.nftwatch import TableWatch
from tiphys.client.backoff import Backoff
from tiphys.client.informer import InformerFactory, key_of
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES
from tiphys.client.types import Object
from tiphys.proxy.services import facts
from tiphys.proxy.services.compiler import Compiler, Surroundings, surroundings
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import Family
from tiphys.proxy.services.guard import Guard
from tiphys.proxy.services.pace import Pace
from tiphys.proxy.services.state import Observer, ServiceState, Sync
from tiphys.proxy.services.table import Touched
from tiphys.proxy.services.writer import Writer

log = logging.getLogger(__name__)

SWEEP = 1.0
"""Seconds of quiet before chains that nobody uses any more are taken away. Kernels before 6.2 take some time to see
that nothing leads to a chain any more."""

PATIENCE = 5.0
"""Seconds to wait for ServiceCIDRs."""

_BY_SERVICE = "service"

Changed = dict[str, tuple[ServiceState | None, ServiceState | None]]
Work = Mapping[str, tuple[Object | None, Sequence[Object]]]


@dataclass(slots=True)
class _Pending:
    """What is not in the kernel yet."""

    full: bool = True
    touched: dict[Family, Touched] = field(default_factory=dict)
    changed: Changed = field(default_factory=dict)

    def add(self, touched: Mapping[Family, Touched]) -> None:
        for family, each in touched.items():
            self.touched.setdefault(family, Touched()).add(each)

    def note(self, key: str, before: ServiceState | None, after: ServiceState | None) -> None:
        earliest = self.changed[key][0] if key in self.changed else before
        self.changed[key] = (earliest, after)


class ServiceProxy:
    """The proxy of one network namespace. `open_nftables` makes the connection to its firewall, `open_watch` hears of
    tables that somebody else deletes.

    Make it before its informers are waited for; it is the only writer of its table."""

    def __init__(
        self,
        informers: InformerFactory,
        clock: Clock,
        config: ProxyConfig,
        open_nftables: Callable[[], Nftables] = Nftables,
        observers: Sequence[Observer] = (),
        open_watch: Callable[[], TableWatch] | None = TableWatch,
    ) -> None:
        self._clock, self._config, self._observers = clock, config, observers
        self._services, self._slices = informers.get(SERVICES), informers.get(ENDPOINT_SLICES)
        self._slices.add_index(_BY_SERVICE, lambda one: filter(None, (facts.owner_of(one),)))
        self._ranges = informers.get(SERVICE_CIDRS)
        self._nodes = informers.get(NODES, fields=f"metadata.name={config.node}") if config.node else None
        self._places = [one for one in (self._ranges, self._nodes) if one is not None]
        self._writer = Writer(config, open_nftables)
        self._guard = Guard(config.table, open_watch, self._lost)
        self._compiler = Compiler(config)
        self._around: Surroundings | None = None
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._pending = _Pending()
        self._backoff = Backoff(base=0.2, limit=10.0)
        self._failures = 0
        self._pace = Pace()

    @property
    def services(self) -> Mapping[str, ServiceState]:
        """Each Service that is proxied, by key."""
        return self._compiler.services

    async def run(self) -> None:
        """Proxy until cancelled; returns, aloud, where there is no libnftables."""
        await self._wait_synced()
        for informer in (self._services, self._slices):
            informer.subscribe(self._changed)
        for informer in self._places:
            informer.subscribe(self._place_changed)
        self._wake.set()
        try:
            while await self._step():
                pass
        finally:
            self._guard.stop()
            self._writer.close()

    async def _wait_synced(self) -> None:
        """Wait for all that is watched; not for ever for ServiceCIDRs, which older API servers do not have."""
        for informer in filter(None, (self._services, self._slices, self._nodes)):
            await informer.wait_synced()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ranges.wait_synced()
        except TimeoutError:
            log.warning("no ServiceCIDRs: addresses that no Service has are not refused")

    def _changed(self, old: Object | None, new: Object | None) -> None:
        for one in (old, new):
            if one is not None:
                self._dirty.add(facts.owner_of(one) or key_of(one))
        self._wake.set()

    def _place_changed(self, old: Object | None, new: Object | None) -> None:
        if self._surroundings() != self._around:
            self._wake.set()

    def _lost(self) -> None:
        """What is in the kernel is not known any more."""
        self._writer.forget()
        self._wake.set()

    def _surroundings(self) -> Surroundings:
        node = self._nodes.get("", self._config.node) if self._nodes is not None else None
        return surroundings(self._config, node, self._ranges.list())

    async def _step(self) -> bool:
        """Wait for a change and bring it to the kernel; after a quiet moment, tidy up. False if it never will."""
        if not self._wake.is_set() and self._writer.untidy(self._compiler.desired):
            try:
                async with asyncio.timeout(SWEEP):
                    await self._wake.wait()
            except TimeoutError:
                await self._sweep()
        await self._wake.wait()
        if delay := self._pace.delay(self._clock.monotonic()):
            await self._clock.sleep(delay)
        self._wake.clear()
        started = self._clock.monotonic()
        try:
            commands = await asyncio.to_thread(self._bring, *self._take())
        except NftablesError as error:
            self._report(started, 0, str(error.strerror))
            if error.errno == errno.ENOPKG:
                log.error("Services do not work here: %s", error.strerror)  # noqa: TRY400 - the message says it all
                return False
            await self._retry(str(error.strerror))
        except Exception as error:  # a fault here must not end the node's process
            log.exception("Services could not be brought up to date")
            self._writer.forget()
            self._dirty |= {*self._services.keys(), *self._compiler.services}
            self._report(started, 0, repr(error))
            await self._retry(repr(error))
        else:
            self._failures = 0
            self._pace.note(self._clock.monotonic(), self._clock.monotonic() - started)
            self._report(started, commands, "")
            self._guard.start()
        return True

    def _take(self) -> tuple[Surroundings, Work]:
        """What there is to compile: Services with their slices, all of them if the place is another than before."""
        around, keys = self._surroundings(), {*self._dirty}
        self._dirty.clear()
        if self._around is None or around.place != self._around.place:
            keys |= {*self._services.keys()}
        self._around = around
        return around, self._work(keys)

    def _work(self, keys: set[str]) -> Work:
        return {key: (self._services.by_key(key), self._slices.by_index(_BY_SERVICE, key)) for key in keys}

    def _bring(self, around: Surroundings, work: Work) -> int:
        """Compile and write, in a thread; nothing else looks at either meanwhile. Returns the number of commands."""
        compiler, pending = self._compiler, self._pending
        pending.add(compiler.put_surroundings(around))
        for key, (service, slices) in work.items():
            before = compiler.services.get(key)
            try:
                pending.add(compiler.put(key, service, slices, around.place))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                log.warning("Service %s is as it was: it cannot be understood (%r)", key, error)
            pending.note(key, before, compiler.services.get(key))
        return self._writer.write(compiler.desired, pending.touched)

    def _report(self, started: float, commands: int, error: str) -> None:
        pending = self._pending
        if not error:
            self._pending = _Pending(full=False)
        sync = Sync(pending.full, self._clock.monotonic() - started, commands, {} if error else pending.changed, error)
        for observer in self._observers:
            try:
                observer.synced(sync, self._compiler.services)
            except Exception:  # what goes on around must not keep Services from the kernel
                log.exception("%s failed", type(observer).__name__)

    async def _retry(self, why: str) -> None:
        """Wait for some time, then compare everything."""
        log.warning("Services are not up to date, next try soon: %s", why)
        self._pending.full = True
        await self._clock.sleep(self._backoff.delay(self._failures))
        self._failures += 1
        self._wake.set()

    async def _sweep(self) -> None:
        try:
            await asyncio.to_thread(self._writer.sweep, self._compiler.desired)
        except NftablesError as error:
            log.debug("chains that nobody uses stay for now: %s", error.strerror)
