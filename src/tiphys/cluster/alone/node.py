"""A whole node that runs alone: beside its kubelet the service proxy, network policies, a name server, and the way to
the pods of other machines. All in the machine's own network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
from dataclasses import replace

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.base.nftables import Nftables
from tiphys.client.config import ClientConfig
from tiphys.client.https import HttpsClient
from tiphys.client.informer import Informer, InformerFactory
from tiphys.client.resources import NODES
from tiphys.client.types import Client
from tiphys.cluster import node_network
from tiphys.cluster.alone import ground
from tiphys.cluster.alone.account import POLICIES, USER, Account, may_list
from tiphys.cluster.alone.ground import Ground
from tiphys.kubelet.config import KubeletConfig
from tiphys.overlay.app import Overlay
from tiphys.overlay.links import OverlayLink
from tiphys.overlay.peers import own_ranges
from tiphys.overlay.plan import inner_mtu
from tiphys.overlay.types import NONE, Settings
from tiphys.proxy.policies.enforcer import PolicyEnforcer
from tiphys.proxy.policies.names import NameServer

log = logging.getLogger(__name__)

VXLAN_DEVICE = "tiphys-vxlan"
PATIENCE = 5.0
"""Seconds that the kubelet waits for its network's account, so that policies are in force from the first pod on."""


class NodeAlone:
    """`options` are the flags (flags.settle); `ground` is the network that the runtime was given."""

    def __init__(self, options: argparse.Namespace, ground: Ground, clock: Clock) -> None:
        self._options, self._ground, self._clock = options, ground, clock

    async def begin(
        self, config: KubeletConfig, access: ClientConfig, client: Client, tasks: asyncio.TaskGroup
    ) -> PolicyEnforcer | None:
        """Start it all in `tasks`; returns who keeps pods from what policies forbid, if that is known in time."""
        settings = self._settings(config)
        fixed = tuple(filter(None, self._options.pod_cidr.split(",")))
        if ranges := fixed or self._ground.remembered():
            await self._ground.give(ranges, settings)
        if not fixed:
            tasks.create_task(self._follow_ranges(config, client, settings), name="this node's ranges")
        if not self._wanted():
            return None
        account = Account(config, access, client, self._clock, self._options.network_kubeconfig or "")
        opening = tasks.create_task(account.opened(tasks), name="account of the node's network")
        tasks.create_task(self._serve(opening, config, settings), name="network")
        return await self._policies(opening, config, tasks) if self._options.network_policies else None

    def _wanted(self) -> bool:
        options = self._options
        return any((options.service_proxy, options.network_policies, options.name_server, options.network != NONE))

    def _settings(self, config: KubeletConfig) -> Settings:
        address = config.node_ips[0]
        plain = Settings(self._options.network, address, VXLAN_DEVICE, self._options.vxlan_id)
        with OverlayLink() as link:
            outer = link.mtu_of(address)
        return replace(plain, mtu=inner_mtu(plain, outer))

    async def _policies(
        self, opening: asyncio.Task[HttpsClient], config: KubeletConfig, tasks: asyncio.TaskGroup
    ) -> PolicyEnforcer | None:
        done, _ = await asyncio.wait({opening}, timeout=PATIENCE)
        if not done:
            log.warning(
                "nobody signs the certificate of this node's network (kubectl get csr; kubectl certificate approve "
                "NAME): Services, names and other machines' pods wait for it, and network policies for the next start"
            )
            return None
        client = opening.result()
        if not await _may_enforce(client):
            log.warning("network policies do nothing here: %s may not list pods, namespaces and policies", USER[0])
            return None
        names = self._options.name_server and bool(config.cluster_dns)
        server = NameServer((*config.node_ips, *config.cluster_dns)) if names else None
        enforcer = PolicyEnforcer(client, self._clock, Nftables, server=server)
        tasks.create_task(enforcer.run(), name="network policies")
        return enforcer

    async def _follow_ranges(self, config: KubeletConfig, client: Client, settings: Settings) -> None:
        """Take the ranges of the Node object, whenever it has others: a Node that was made anew gets new ones."""
        changed = asyncio.Event()
        informer = Informer(client, NODES, self._clock, fields=f"metadata.name={config.node_name}")
        informer.subscribe(lambda old, new: changed.set())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informer.run(), name="own node, for its ranges")
            while True:
                await changed.wait()
                changed.clear()
                if ranges := own_ranges(informer.get("", config.node_name)):
                    await self._ground.give(ranges, settings)

    async def _serve(self, opening: asyncio.Task[HttpsClient], config: KubeletConfig, settings: Settings) -> None:
        """What depends on the node's ranges; all over again when they change."""
        client = await opening
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(client.close)
            informers = await stack.enter_async_context(InformerFactory(client, self._clock))
            while True:
                ranges = await self._ground.ranges()
                async with asyncio.TaskGroup() as tasks:
                    work = tasks.create_task(self._serve_ranges(client, informers, config, settings, ranges))
                    await self._ground.moved(ranges)
                    work.cancel()

    async def _serve_ranges(
        self,
        client: HttpsClient,
        informers: InformerFactory,
        config: KubeletConfig,
        settings: Settings,
        ranges: tuple[str, ...],
    ) -> None:
        domain = config.cluster_domain or "cluster.local"
        place = node_network.Place(config.node_name, ground.NAMESPACE, config.node_ips, ranges, domain)
        parts = node_network.Parts(place, informers, client, self._clock)
        routed = replace(settings, sources=tuple(map(gateway, ranges)))
        here = frozenset({config.node_name})
        nodes = informers.get(NODES)
        overlay = Overlay(routed, nodes, self._clock, here=lambda: here, changed=self._ground.masquerade)
        names = self._options.name_server and bool(config.cluster_dns)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(overlay.run(), name="overlay")
            await node_network.serve(parts, services=self._options.service_proxy, names=names)


async def _may_enforce(client: Client) -> bool:
    """Whether policies can be known. If nobody can be asked now they are taken to be: pods wait for them."""
    try:
        return await may_list(client, POLICIES)
    except (ApiError, OSError):
        return True


def gateway(cidr: str) -> str:
    """The node's own address among its pods: the first."""
    from ipaddress import ip_network

    return str(ip_network(cidr)[1])
