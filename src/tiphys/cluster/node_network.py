"""What serves a node's network beside its kubelet: Services, policies and names, over one connection to the API server.

They share one set of informers, so each object comes to a node once.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from tiphys.base.clock import Clock
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.client.informer import InformerFactory
from tiphys.cluster import node_dns, node_services
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.node_proxy_health import NodeProxyHealth
from tiphys.runtime.node import NodeNetwork


@dataclass(frozen=True, slots=True)
class Place:
    """A node as its network sees it."""

    name: str
    namespace: str
    """The path of its network namespace."""
    addresses: tuple[str, ...]
    """Of each IP family, the primary one first."""
    pod_cidrs: tuple[str, ...]
    domain: str
    """The cluster's, e.g. cluster.local."""
    balancing: str = "random"
    """See `ClusterConfig`."""

    @property
    def families(self) -> tuple[str, ...]:
        """As the API names them, the primary one first."""
        return tuple("IPv6" if ":" in each else "IPv4" for each in self.pod_cidrs)


@dataclass(frozen=True, slots=True)
class Parts:
    """What each of them is made from."""

    place: Place
    informers: InformerFactory
    client: HttpsClient
    clock: Clock


def place(config: ClusterConfig, node: NodeConfig, namespace: NodeNetwork) -> Place:
    """That of a node of this machine's cluster."""
    domain = node_dns.domain(config)
    return Place(node.name, namespace.namespace, namespace.addresses, namespace.pod_cidrs, domain, config.balancing)


async def run(place: Place, account: ClientConfig, clock: Clock) -> None:
    """Serve until cancelled; what is in the kernel stays. `account` is who asks the API server: system:kube-proxy."""
    client = HttpsClient(account, clock=clock, agent="kube-proxy")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        informers = await stack.enter_async_context(InformerFactory(client, clock))
        await serve(Parts(place, informers, client, clock))


async def serve(parts: Parts, *, services: bool = True, names: bool = True) -> None:
    """All of them, or some, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        if names:
            tasks.create_task(node_dns.run(parts), name="names")
        if services:
            _serve_services(parts, tasks)
        await asyncio.get_running_loop().create_future()


def _serve_services(parts: Parts, tasks: asyncio.TaskGroup) -> None:
    around = NodeProxyHealth(parts)
    tasks.create_task(around.run(), name="around the service proxy")
    tasks.create_task(node_services.service_proxy(parts, [around.observer]).run(), name="services")
