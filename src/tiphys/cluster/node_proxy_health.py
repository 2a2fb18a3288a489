"""What goes on around a node's Service proxy, inside the node's network namespace: stale connections, health check
ports, and kube-proxy's ports 10256 (health) and 10249 (metrics, on the loopback address only). And for the host's."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock
from tiphys.base.conntrack import Conntrack, open_socket
from tiphys.base.metrics import Registry
from tiphys.client.events import EventRecorder
from tiphys.client.informer import InformerFactory
from tiphys.proxy.conntrack import sysctls
from tiphys.proxy.health.answers import health_handler, metrics_handler
from tiphys.proxy.health.serving import HEALTH_PORT, METRICS_PORT, listeners, serve_plainly
from tiphys.proxy.metrics import ProxyMetrics
from tiphys.proxy.observer import Node, ProxyObserver
from tiphys.runtime import netns

if TYPE_CHECKING:
    from tiphys.cluster.node_network import Parts


TIMEOUTS = {"nf_conntrack_tcp_timeout_established": 86400, "nf_conntrack_tcp_timeout_close_wait": 3600}
"""Seconds that a node remembers idle and half closed connections: kube-proxy's. An address that was translated is still
known to whoever closes late."""


class NodeProxyHealth:
    """`observer` is to be told of each sync of the node's proxy."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._namespace = parts, parts.place.namespace
        self._families = parts.place.families
        self._recorder = EventRecorder(parts.client, parts.clock, "kube-proxy", parts.place.name)
        self.observer = ProxyObserver(
            Node(parts.place.name, self._families, parts.place.addresses),
            parts.informers,
            parts.clock,
            ProxyMetrics(Registry()),
            lambda: Conntrack(lambda: netns.inside(self._namespace, open_socket)),
            self._listen,
            self._recorder,
        )

    async def run(self) -> None:
        """Until cancelled."""
        netns.inside(self._namespace, partial(sysctls.apply, TIMEOUTS))
        observer, metrics, clock = self.observer, self.observer.metrics, self._parts.clock
        health = health_handler(observer.health, clock, metrics.healthz, metrics.livez)
        loopback = "127.0.0.1" if "IPv4" in self._families else "::1"
        local = partial(self._at, loopback, METRICS_PORT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(observer.run(), name="around services")
            tasks.create_task(self._recorder.run(), name="proxy events")
            tasks.create_task(
                serve_plainly(partial(self._listen, HEALTH_PORT), health, "the proxy's health", clock), name="healthz"
            )
            tasks.create_task(
                serve_plainly(local, metrics_handler(metrics.registry), "the proxy's metrics", clock), name="metrics"
            )

    def _listen(self, port: int) -> list[socket.socket]:
        """On all addresses of the node."""
        return self._at("0.0.0.0" if self._families == ("IPv4",) else "::", port)  # noqa: S104 - in its own namespace

    def _at(self, host: str, port: int) -> list[socket.socket]:
        return netns.inside(self._namespace, lambda: listeners(host, port))


def host_observer(families: tuple[str, ...], informers: InformerFactory, clock: Clock) -> ProxyObserver:
    """Around the proxy of the host, which has no node ports and nobody to answer to: stale connections."""
    return ProxyObserver(Node("", families, ()), informers, clock, ProxyMetrics(Registry()), Conntrack)
