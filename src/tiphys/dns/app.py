"""The cluster's name server: informers feed the index, sockets that somebody else opened ask the responder.

It reads its sockets when Services and endpoints are known, but waits no longer than CoreDNS does: questions that come
earlier stay in the sockets and are answered then. Names outside are answered whatever the API server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.http.server import BACKLOG, serve_on
from tiphys.client.informer import Informer, InformerFactory
from tiphys.client.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from tiphys.client.types import Object
from tiphys.dns.clients import Clients
from tiphys.dns.exchange import Sockets
from tiphys.dns.forward import MAX_CONCURRENT, Forwarder
from tiphys.dns.index import Index
from tiphys.dns.metrics import Metrics, MetricsPage
from tiphys.dns.resolvconf import watched
from tiphys.dns.responder import Responder
from tiphys.dns.sockets import HostSockets
from tiphys.dns.tcp import BACKLOG as QUEUE
from tiphys.dns.tcp import MAX_CONNECTIONS, TcpServer
from tiphys.dns.udp import UdpServer
from tiphys.dns.upstreams import Server, Upstreams, is_ours
from tiphys.dns.zone import Zone

log = logging.getLogger(__name__)

DOMAIN = "cluster.local"
PORT = 10053
METRICS_PORT = 9153
PATIENCE = 5.0
"""Seconds without the cluster's objects after which names outside are answered, and those inside are failures."""
RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """What a name server is told."""

    domain: str = DOMAIN
    upstreams: tuple[Server, ...] = ()
    """Asked for names outside the cluster; none: those of `resolv_conf`, as it changes."""
    resolv_conf: Path = RESOLV_CONF
    near: tuple[str, ...] = ()
    """Networks that are answered even if their addresses are public ones."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Bound sockets, which the server closes at the end."""

    udp: Sequence[socket.socket]
    tcp: Sequence[socket.socket]
    metrics: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        for sock in (*self.udp, *self.tcp, *self.metrics):
            sock.close()

    def places(self) -> list[tuple[bytes, int]]:
        """Where we are: packed addresses and ports."""
        names = [sock.getsockname() for sock in (*self.udp, *self.tcp)]
        return list(dict.fromkeys((ip_address(name[0].partition("%")[0]).packed, name[1]) for name in names))


Bind = Callable[[str, int, socket.SocketKind], socket.socket]
"""Makes a socket bound to an address and a port, where clients are. Raises OSError."""


def listen(bind: Bind, addresses: Sequence[str], port: int = PORT, metrics_port: int = METRICS_PORT) -> Listeners:
    """The sockets at these addresses; no metrics at port 0, or where somebody else has theirs. Raises OSError."""
    with contextlib.ExitStack() as stack:
        udp = [stack.enter_context(bind(address, port, socket.SOCK_DGRAM)) for address in addresses]
        tcp = [stack.enter_context(bind(address, port, socket.SOCK_STREAM)) for address in addresses]
        for sock in tcp:
            sock.listen(QUEUE)
        metrics: list[socket.socket] = []
        try:
            for address in addresses if metrics_port else ():
                metrics.append(bind(address, metrics_port, socket.SOCK_STREAM))
                metrics[-1].listen(BACKLOG)
        except OSError as error:
            log.warning("no metrics of the name server: port %d: %s", metrics_port, error.strerror)
        stack.pop_all()
    return Listeners(udp, tcp, metrics)


async def run(
    config: DnsConfig,
    informers: InformerFactory,
    listeners: Listeners,
    clock: Clock,
    sockets: Sockets | None = None,
) -> None:
    """Serve until cancelled."""
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listeners.close)
        index, metrics = Index(), Metrics()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        questions, connections = _limits()
        forwarder = Forwarder(Upstreams(config.upstreams), sockets or HostSockets(), clock, tasks, questions)
        places = listeners.places()
        zone = Zone(config.domain, index, [address for address, _ in places])
        forwarder.is_ours = lambda server: is_ours(server, places) or _is_service(index, server)
        responder = Responder(zone, index, forwarder, clock, metrics)
        clients = Clients(config.near)
        known = follow(informers, index, clock, stack)
        if not config.upstreams:
            tasks.create_task(watched(config.resolv_conf, forwarder.replace), name="resolv.conf")
        for sock in listeners.metrics:
            await stack.enter_async_context(serve_on(MetricsPage(metrics, forwarder), sock, clock=clock))
        await _wait(known)
        responder.ready = all(informer.synced for informer in known)
        for sock in listeners.udp:
            tasks.create_task(UdpServer(sock, responder, tasks, clients).run(), name="dns udp")
        for sock in listeners.tcp:
            server = TcpServer(sock, responder, clock, tasks, clients, limit=connections)
            tasks.create_task(server.run(), name="dns tcp")
        for informer in known:
            await informer.wait_synced()
        responder.ready = True
        await asyncio.get_running_loop().create_future()


def _limits() -> tuple[int, int]:
    """Questions to other servers and TCP connections at a time: others of this process need files, too."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return MAX_CONCURRENT, MAX_CONNECTIONS
    return min(MAX_CONCURRENT, files // 4), min(MAX_CONNECTIONS, files // 8)


def follow(informers: InformerFactory, index: Index, clock: Clock, stack: contextlib.AsyncExitStack) -> list[Informer]:
    """Have the index follow what is in the cluster, until `stack` ends; returns what must be known before names are
    answered.

    Namespaces are not among that: without the right to list them any may be there."""
    services, slices = informers.get(SERVICES), informers.get(ENDPOINT_SLICES)
    namespaces = informers.metadata_of(NAMESPACES, _only_name)

    def tell(informer: Informer, change: Callable[[Object | None, Object | None, float], None]) -> None:
        def changed(old: Object | None, new: Object | None) -> None:
            change(old, new, clock.time())

        informer.subscribe(changed)
        stack.callback(informer.unsubscribe, changed)

    tell(services, index.service_changed)
    tell(slices, index.slice_changed)
    tell(namespaces, index.namespace_changed)
    return [services, slices]


def _only_name(namespace: Object) -> Object:
    metadata = namespace["metadata"]
    return {"metadata": {key: metadata.get(key) for key in ("name", "uid", "resourceVersion")}}


async def _wait(known: Sequence[Informer]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            for informer in known:
                await informer.wait_synced()
    except TimeoutError:
        log.warning("the cluster's Services are not known yet: its names are failures until they are")


def _is_service(index: Index, server: Server) -> bool:
    """A cluster's own address in the host's resolv.conf is an easy mistake: its questions would come back to us."""
    return index.service_at(ip_address(server.address.partition("%")[0]).packed) is not None
