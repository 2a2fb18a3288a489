"""Stale entries removed when endpoints of a UDP Service changed.

`put` is called when the kernel has a Service's new rules: not before, or the next packet of a flow would be translated
by the old ones again. Nothing is read unless a UDP Service changed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Hashable
from itertools import chain

from tiphys.base.clock import Clock
from tiphys.base.conntrack import Conntrack
from tiphys.proxy.conntrack.stale import Frontends, UdpPort
from tiphys.proxy.metrics import ProxyMetrics

log = logging.getLogger(__name__)

FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class ConntrackCleaner:
    """Of one address family ("IPv4", "IPv6") in one network namespace, in which `opened` opens a `Conntrack`.

    `node_addresses` are those on which node ports answer; None for any."""

    def __init__(
        self,
        family: str,
        opened: Callable[[], Conntrack],
        clock: Clock,
        metrics: ProxyMetrics,
        node_addresses: Collection[str] | None = None,
    ) -> None:
        self._family, self._opened, self._clock, self._metrics = family, opened, clock, metrics
        self._node_addresses = node_addresses
        self._services: dict[Hashable, tuple[UdpPort, ...]] = {}
        self._changed = asyncio.Event()

    def put(self, service: Hashable, ports: tuple[UdpPort, ...]) -> None:
        """A Service's UDP ports of this family are these now; () when it has none or is gone."""
        if self._services.get(service, ()) == ports:
            return
        self._changed.set()
        if ports:
            self._services[service] = ports
        else:
            del self._services[service]

    async def run(self) -> None:
        """Clean after each change, until cancelled."""
        while True:
            await self._changed.wait()
            await self.clean()

    async def clean(self) -> int:
        """Remove stale entries if something changed since the last time; returns how many.

        Takes about 5 microseconds for each UDP entry of the namespace, in a thread. What fails is logged and tried
        again at the next change."""
        if not self._changed.is_set():
            return 0
        self._changed.clear()
        frontends = Frontends(chain.from_iterable(self._services.values()), self._node_addresses)
        if not frontends:
            return 0
        start = self._clock.monotonic()
        try:
            deleted = await asyncio.to_thread(self._remove, frontends)
        except OSError as error:
            log.warning("stale connections of UDP Services stay for now (%s): %s", self._family, error)
            return 0
        self._metrics.conntrack_seconds.observe(self._clock.monotonic() - start, self._family)
        self._metrics.conntrack_deleted.inc(self._family, by=deleted)
        return deleted

    def _remove(self, frontends: Frontends) -> int:
        with self._opened() as conntrack:
            return conntrack.delete(frontends.stale(conntrack.flows(FAMILIES[self._family])))
