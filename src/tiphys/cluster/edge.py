"""The way into a cluster from its machine: what the control plane's process does for the host's own network.

Published ports lead to Services; the service proxy in its role for the host lets addresses of load balancers and
Services answer here. All of it is in the kernel and stays when this process ends: `closing.close` takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock
from tiphys.base.identity import User
from tiphys.base.netlink import Netlink
from tiphys.client.informer import InformerFactory
from tiphys.client.local import LocalClient
from tiphys.client.resources import NODES
from tiphys.cluster import config as configs
from tiphys.cluster import node_services
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.join import joining
from tiphys.cluster.join.approver import Approver
from tiphys.cluster.join.requests import Reserved
from tiphys.cluster.node_proxy_health import host_observer
from tiphys.cluster.pki import server_names
from tiphys.cluster.ports import desk, manage
from tiphys.cluster.ports.published import PublishedPort
from tiphys.cluster.ports.publisher import Publisher
from tiphys.overlay.app import Overlay
from tiphys.proxy.services.proxy import ServiceProxy

if TYPE_CHECKING:
    from tiphys.apiserver.app import ApiServer

log = logging.getLogger(__name__)

APPROVER = User("tiphys:node-approver", groups=("system:masters", "system:authenticated"))
PROXY = User("system:kube-proxy", groups=("system:node-proxier", "system:authenticated"))


def opened(config: ClusterConfig) -> socket.socket:
    """Where commands ask about published ports; who asks before `run` serves them waits."""
    return desk.listening(config.paths.run / desk.NAME)


async def run(config: ClusterConfig, server: ApiServer, asked: socket.socket, clock: Clock) -> None:
    """Serve until cancelled; `asked` is what `opened` made."""
    client = LocalClient(server.handler, PROXY, agent="kube-proxy")

    def published() -> tuple[PublishedPort, ...]:
        return manage.of(configs.existing(config.name))

    await asyncio.to_thread(lead_to_services, config)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(asked)
        informers = await stack.enter_async_context(InformerFactory(client, clock))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if config.listen:
            _let_join(config, server, informers, tasks, clock)
        proxied = node_services.host_config(config)
        around = host_observer(proxied.families, informers, clock)
        tasks.create_task(around.run(), name="stale connections of the host")
        services = ServiceProxy(informers, clock, proxied, observers=[around])
        tasks.create_task(services.run(), name="services of the host")
        publisher = Publisher(manage.place(config), published, informers, clock, tasks)
        tasks.create_task(publisher.run(), name="published ports")
        tasks.create_task(desk.serve(asked, publisher), name="published ports' desk")


def _let_join(
    config: ClusterConfig, server: ApiServer, informers: InformerFactory, tasks: asyncio.TaskGroup, clock: Clock
) -> None:
    """Nodes of other machines: routes to their pods, and the certificates that they may have."""

    def here() -> frozenset[str]:
        return frozenset(node.name for node in configs.existing(config.name).nodes)

    own = (*config.node_networks, *config.service_networks, *config.pods_here)
    overlay = Overlay(joining.settings(config), informers.get(NODES), clock, here=here, ranges_here=own)
    tasks.create_task(overlay.run(), name="overlay")
    signer = LocalClient(server.handler, APPROVER, agent="tiphys-node-approver")
    reserved = Reserved(frozenset(server_names(config)), own)
    tasks.create_task(_approve(signer, reserved, clock), name="certificate requests of nodes")


async def _approve(client: LocalClient, reserved: Reserved, clock: Clock) -> None:
    async with InformerFactory(client, clock) as informers:
        await Approver(client, informers, clock, reserved).run()


def lead_to_services(config: ClusterConfig) -> None:
    """A route for the Services' ranges, so that a machine without any way out reaches them, too: addresses are
    translated only in packets that have some way to go. Load balancers are asked from the address by which others know
    this machine, as they would see it. It ends with the bridge."""
    try:
        with Netlink() as link:
            for network in config.service_networks:
                link.add_route(str(network), index=link.index(config.bridge))
            for cidr in node_services.load_balancers(config):
                link.add_route(cidr, index=link.index(config.bridge), source=_outer_address(cidr))
    except OSError as error:
        log.warning("cluster IPs may not be reached from this machine: %s", error.strerror)


def _outer_address(cidr: str) -> str:
    """This machine's address on the way out, of the range's IP version; "" without one."""
    family, somewhere = (socket.AF_INET6, "2001:db8::1") if ":" in cidr else (socket.AF_INET, "198.51.100.1")
    with socket.socket(family, socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
        asking.connect((somewhere, 9))  # sends nothing
        return str(asking.getsockname()[0])
    return ""
