"""Repairs allocations of Services: everything at start, then what changed, shortly after it did.

What cannot be repaired is looked at, and told, again every three minutes, as upstream does with everything; while
nothing is wrong and nothing changes, nothing runs. With several servers each one repairs: what one has written
already, the others find well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from tiphys.api.validation.addresses import parse_cidr
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.entries import Change
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.repair.addresses import of_address, of_service
from tiphys.apiserver.repair.findings import Finding, Later, Object, Repair
from tiphys.apiserver.repair.metrics import RepairMetrics
from tiphys.apiserver.repair.ports import PortBook
from tiphys.apiserver.security import APISERVER
from tiphys.apiserver.service_ips import ServiceIps
from tiphys.apiserver.service_ranges import Network, ServiceRanges
from tiphys.apiserver.timers import Timer, Timers
from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler, Request, Response
from tiphys.client.events import WARNING, EventRecorder
from tiphys.client.local import LocalClient

log = logging.getLogger(__name__)

PERIOD = 180.0
"""Seconds between looks at what stays wrong."""
SETTLING = 5.0
"""Seconds after a change: a Service and its IPAddress come in one commit, or almost."""
_AT_ONCE = 200
"""Objects looked at before others have their turn."""

SERVICES, ADDRESSES = ("", "services"), ("networking.k8s.io", "ipaddresses")
CIDRS = ("networking.k8s.io", "servicecidrs")
Key = tuple[str, str]
"""(plural, key in the store)."""


def allocation_repair(
    caches: Caches,
    ips: ServiceIps,
    config: ApiServerConfig,
    timers: Timers,
    clock: Clock,
    handler: Callable[[], Handler],
) -> AllocationRepair:
    """That of a server, whose `handler` is there by the time that something is to be told."""

    async def tell(request: Request) -> Response:
        return await handler()(request)

    client = LocalClient(tell, APISERVER, agent="kube-apiserver")
    ip_events, port_events = (
        EventRecorder(client, clock, f"{what}allocator-repair-controller") for what in ("ip", "port")
    )
    ranges = ServiceRanges(caches.of(*CIDRS), config.service_cidr)
    first, last = config.node_ports
    events = ip_events, port_events
    return AllocationRepair(caches, ips, ranges, range(first, last + 1), timers, clock, events, RepairMetrics())


class AllocationRepair:
    """`events` writes as the IP allocator's repair controller and as that of ports, in this order."""

    def __init__(
        self,
        caches: Caches,
        ips: ServiceIps,
        ranges: ServiceRanges,
        ports: range,
        timers: Timers,
        clock: Clock,
        events: tuple[EventRecorder, EventRecorder],
        metrics: RepairMetrics,
    ) -> None:
        self._caches, self._ips, self._ranges = caches, ips, ranges
        self._timers, self._clock, self.metrics = timers, clock, metrics
        self._ip_events, self._port_events = events
        self._services, self._addresses, self._cidrs = (caches.of(*one) for one in (SERVICES, ADDRESSES, CIDRS))
        self._book = PortBook(ports)
        self._due: dict[Key, None] = {}
        self._waiting: dict[Key, tuple[float, Timer]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Repair until cancelled."""
        followed = (
            (self._services, self._service_changed),
            (self._addresses, self._address_changed),
            (self._cidrs, self._cidr_changed),
        )
        for cache, told in followed:
            cache.listeners.append(told)
        try:
            async with asyncio.TaskGroup() as tasks:
                for recorder in (self._ip_events, self._port_events):
                    tasks.create_task(recorder.run(), name="events of repairs")
                for entry in self._services.range():
                    self._book.put(entry.key, self._services.obj(entry))
                    self._due["services", entry.key] = None
                self._due |= {("ipaddresses", entry.key): None for entry in self._addresses.range()}
                while True:
                    await self._work()
                    await self._wake.wait()
        finally:
            for cache, told in followed:
                cache.listeners.remove(told)

    async def _work(self) -> None:
        self._wake.clear()
        due, self._due = self._due, {}
        for number, (plural, key) in enumerate(due):
            try:
                await self._look(plural, key)
            except Exception:  # one strange object must not keep all others from being repaired
                log.exception("%s cannot be checked", key)
            if number % _AT_ONCE == 0:
                await self._clock.sleep(0)

    async def _look(self, plural: str, key: str) -> None:
        cache = self._services if plural == "services" else self._addresses
        entry = cache.at(key)
        if entry is None:
            return
        stays = False
        for finding in self._findings(plural, key, cache.obj(entry)):
            if isinstance(finding, Later):
                self._again(finding.seconds, plural, key)
            else:
                stays |= not await self._treat(finding)
        if stays:
            self._again(PERIOD, plural, key)

    def _findings(self, plural: str, key: str, obj: Object) -> Iterator[Finding | Later]:
        if plural == "services":
            yield from of_service(obj, self._address, self._service, self._networks())
            yield from self._book.findings(key, obj)
        elif (found := of_address(obj, self._service, self._clock.time())) is not None:
            yield found

    async def _treat(self, finding: Finding) -> bool:
        """Tell and repair; whether it is well now."""
        of_port = finding.reason.startswith("Port")
        (self.metrics.ports if of_port else self.metrics.addresses).inc(finding.kind)
        if finding.reason:
            log.warning("%s: %s", finding.reason, finding.message)
            recorder = self._port_events if of_port else self._ip_events
            recorder.event(finding.about, WARNING, finding.reason, finding.message, action=finding.action)
        well = finding.repair is not Repair.NOTHING
        if finding.repair in (Repair.DELETE, Repair.RECREATE):
            well = await self._ips.remove(finding.ip)
        if well and finding.repair in (Repair.CREATE, Repair.RECREATE):
            well = await self._ips.create(finding.ip, finding.about)
        if not well and finding.repair is not Repair.NOTHING:
            self.metrics.failures.inc()
        return well

    def _again(self, seconds: float, plural: str, key: str) -> None:
        """Look at it after so many seconds, or earlier if that was said before."""
        found, when = self._waiting.get((plural, key)), self._clock.monotonic() + seconds
        if found is not None:
            if found[0] <= when:
                return
            found[1].cancel()
        self._waiting[plural, key] = when, self._timers.after(seconds, partial(self._mark, (plural, key)))

    def _mark(self, key: Key) -> None:
        del self._waiting[key]
        self._due[key] = None
        self._wake.set()

    def _service_changed(self, change: Change) -> None:
        key = change.entry.key
        service = None
        if change.type != "DELETED":
            with suppress(ValueError, KeyError, TypeError):  # one that cannot be read has no ports
                service = self._services.obj(change.entry)
        for each in {key, *self._book.put(key, service)}:
            self._again(SETTLING, "services", each)

    def _address_changed(self, change: Change) -> None:
        if change.type != "DELETED":
            self._again(SETTLING, "ipaddresses", change.entry.key)
            return
        parent = (self._addresses.obj(change.entry).get("spec") or {}).get("parentRef") or {}
        names = parent.get("namespace") or "", parent.get("name") or ""
        self._again(SETTLING, "services", self._services.stored.key(*names))

    def _cidr_changed(self, change: Change) -> None:
        if change.type == "DELETED":
            for entry in self._services.range():
                self._again(SETTLING, "services", entry.key)

    def _address(self, ip: str) -> Object | None:
        return self._caches.get(*ADDRESSES, "", ip)

    def _service(self, namespace: str, name: str) -> Object | None:
        return self._caches.get(*SERVICES, namespace, name)

    def _networks(self) -> list[Network]:
        """All ranges, also those on their way out: their addresses are in use until they are gone."""
        found = list(self._ranges.networks())
        for cidr in self._caches.list(*CIDRS):
            texts = (cidr.get("spec") or {}).get("cidrs") or ()
            found += [parsed[1] for text in texts if (parsed := parse_cidr(text)) is not None]
        return found
