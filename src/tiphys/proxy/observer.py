"""What goes on around the Services' rules: stale connections, health check ports, health and metrics.

`ProxyObserver` hears of each sync from the proxy, and of each change from the same informers; it runs what follows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tiphys.base.clock import Clock, parse_rfc3339
from tiphys.base.conntrack import Conntrack
from tiphys.client.events import EventRecorder
from tiphys.client.informer import InformerFactory, split_key
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.types import Object
from tiphys.proxy.conntrack.cleaner import ConntrackCleaner
from tiphys.proxy.conntrack.stale import UdpPort
from tiphys.proxy.health.nodeports import HealthCheckPorts, Listen
from tiphys.proxy.health.state import TIMEOUT, ProxyHealth
from tiphys.proxy.metrics import ProxyMetrics
from tiphys.proxy.services.state import PortState, ServiceState, Sync

TRIGGERED = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True)
class Node:
    """Whose proxy it is. For the host of many nodes, `name` is "" and `addresses` is ()."""

    name: str
    families: tuple[str, ...] = ("IPv4",)
    addresses: Collection[str] | None = None
    """On which node ports answer; None for any."""
    timeout: float = TIMEOUT
    """Seconds that a change may wait for the kernel before the proxy counts as unhealthy."""


class ProxyObserver:
    """An `Observer` of the proxy. `listen` opens health check ports, `open_conntrack` the node's connections."""

    def __init__(
        self,
        node: Node,
        informers: InformerFactory,
        clock: Clock,
        metrics: ProxyMetrics,
        open_conntrack: Callable[[], Conntrack],
        listen: Listen | None = None,
        recorder: EventRecorder | None = None,
    ) -> None:
        self._node, self._clock, self.metrics = node, clock, metrics
        self._listen, self._recorder = listen, recorder
        self.health = ProxyHealth(node.timeout)
        self._cleaners = {
            family: ConntrackCleaner(family, open_conntrack, clock, metrics, node.addresses) for family in node.families
        }
        self._slices, self._services = informers.get(ENDPOINT_SLICES), informers.get(SERVICES)
        self._nodes = informers.get(NODES, fields=f"metadata.name={node.name}") if node.name else None
        self._ports: HealthCheckPorts | None = None
        self._checked: dict[str, ServiceState] = {}
        self._without: dict[tuple[str, str], dict[str, int]] = {}
        """By policy and family: how many ports of which Service have no endpoint here."""
        self._started = clock.time()
        self._triggers: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        subscriptions = [(self._services, self._service_changed), (self._slices, self._slice_changed)]
        if self._nodes is not None:
            subscriptions.append((self._nodes, self._node_changed))
        for informer, changed in subscriptions:
            informer.subscribe(changed)
        try:
            await self._run()
        finally:
            self._ports = None
            for informer, changed in subscriptions:
                informer.unsubscribe(changed)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._listen is not None:
                own = self._node.name, self._listen, self.health
                self._ports = HealthCheckPorts(*own, tasks, self._clock, self._recorder)
                self._check_ports()
            for family, cleaner in self._cleaners.items():
                tasks.create_task(cleaner.run(), name=f"stale connections, {family}")
            await asyncio.get_running_loop().create_future()

    def synced(self, sync: Sync, services: Mapping[str, ServiceState]) -> None:
        """See `Observer`."""
        now, families = self._clock.time(), self._node.families
        if sync.error:
            for family in families:
                self.metrics.failed(family)
            return
        for key, (before, after) in sync.changed.items():
            self._note(key, before, after)
        for family in families:
            self.health.updated(family, now)
            self.metrics.synced(family, now, sync.seconds, full=sync.full, triggers=self._triggers)
        self._triggers = []
        for (policy, family), ports in self._without.items():
            self.metrics.no_local_endpoints(policy, family, sum(ports.values()))

    def _note(self, key: str, before: ServiceState | None, after: ServiceState | None) -> None:
        ports = after.ports if after is not None else ()
        for family, cleaner in self._cleaners.items():
            cleaner.put(key, tuple(_udp(one) for one in ports if one.family == family and one.port.protocol == "udp"))
        self._count(key, ports)
        if after is not None and after.health_check_port:
            self._checked[key] = after
        elif self._checked.pop(key, None) is None:
            return
        self._check_ports()

    def _count(self, key: str, ports: Sequence[PortState]) -> None:
        """Count the ports whose policy is Local and that have endpoints, but none here."""
        for policy in ("internal", "external"):
            for family in self._node.families:
                missing = sum(_is_elsewhere(one, policy) for one in ports if one.family == family)
                counted = self._without.setdefault((policy, family), {})
                if missing:
                    counted[key] = missing
                else:
                    counted.pop(key, None)

    def _check_ports(self) -> None:
        if self._ports is not None:
            checked = {split_key(key): state for key, state in self._checked.items()}
            self._ports.sync(
                {name: state.health_check_port for name, state in checked.items()},
                {name: state.local_ready for name, state in checked.items()},
            )

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        self._queued("service")

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        self._queued("endpoint")
        trigger = ((new or {}).get("metadata", {}).get("annotations") or {}).get(TRIGGERED)
        if trigger:
            with contextlib.suppress(ValueError):  # what somebody else wrote there
                when = parse_rfc3339(trigger)
                if when > self._started:
                    self._triggers.append(when)

    def _queued(self, kind: str) -> None:
        now = self._clock.time()
        self.metrics.changed(kind)
        self.metrics.queued(now, self._node.families)
        for family in self._node.families:
            self.health.queued(family, now)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        self.health.node_is(new)


def _udp(state: PortState) -> UdpPort:
    """A port for the look at stale connections: endpoints on all nodes, whatever the policies."""
    port = state.port
    addresses = (port.cluster_ip, *port.external_ips, *port.load_balancer_ips)
    serving = frozenset((one.address, one.port) for one in state.endpoints if one.serving)
    return UdpPort(addresses, port.port, port.node_port, serving)


def _is_elsewhere(state: PortState, policy: str) -> bool:
    port, usable = state.port, state.usable
    local = port.internal_local if policy == "internal" else port.external and port.external_local
    return local and usable.anywhere and not usable.local
