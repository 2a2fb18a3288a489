"""The pods' network of a node that runs alone, in the machine's own network: ready when the node's ranges are known.

They are a flag's, or those that the Node object has; ones that it once had are remembered, so that pods go on when the
API server is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tiphys.base.files import write_json
from tiphys.base.netlink import Netlink
from tiphys.cluster import paths
from tiphys.overlay.links import OverlayLink
from tiphys.overlay.plan import inner_mtu
from tiphys.overlay.types import Settings
from tiphys.runtime import nft
from tiphys.runtime.network import PodNetwork
from tiphys.runtime.node import ClusterNetwork, guard_sources, outgoing_mtu, setup_cluster_network
from tiphys.runtime.types import Network, SandboxSpec, SandboxStatus

log = logging.getLogger(__name__)

BRIDGE = "tiphys-pods"
"""The device that has the pods' gateways; its name is that of the firewall's tables, too."""
NAMESPACE = f"/proc/{os.getpid()}/ns/net"
NETWORK_FILE = "network.json"
"""In the node's directory: its own ranges, and those of all nodes."""
_STANDALONE = "10.88.0.0/16"
"""Without an API server nobody gives ranges away."""


class Ground:
    """A Network (runtime.types) that waits for its ranges. `root` keeps what must be remembered.

    `plugins` is another network that connects the pods, whatever the ranges."""

    def __init__(self, root: Path, plugins: Network | None = None) -> None:
        self._root, self._plugins = root, plugins
        self._file = root / NETWORK_FILE
        self._pods: PodNetwork | None = None
        self._there = asyncio.Event()
        self._moved = asyncio.Event()
        self._sandboxes: Sequence[SandboxStatus] | None = None
        self._own: tuple[str, ...] = ()
        self._all: tuple[str, ...] = ()

    @property
    def namespace(self) -> str:
        """The machine's own network."""
        return NAMESPACE

    def remembered(self) -> tuple[str, ...]:
        """The ranges of an earlier run."""
        return tuple(self._remembered().get("own", ()))

    async def standalone(self, told: str) -> None:
        """Without an API server: ranges that were told, or any."""
        await self.give(tuple((told or _STANDALONE).split(",")), None)

    async def give(self, own: tuple[str, ...], settings: Settings | None) -> None:
        """The node's ranges. Raises RuntimeFailure; what the machine lacks is logged."""
        if own == self._own:
            return
        before, self._own = self._own or self.remembered(), own
        self._all = tuple(self._remembered().get("all", ()))
        if before and before != own:
            log.warning(
                "this node has other ranges: pods had addresses of %s, now of %s", ",".join(before), ",".join(own)
            )
            await asyncio.to_thread(_forget_gateways)
        if self._plugins is None:
            self._pods = await asyncio.to_thread(self._make, settings)
            if self._sandboxes is not None:
                await self._pods.keep(self._sandboxes)
        self._save()
        self._there.set()
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self, own: tuple[str, ...]) -> None:
        """Return when the node's ranges are others than these."""
        while self._own == own:
            await self._moved.wait()

    async def ranges(self) -> tuple[str, ...]:
        """The node's; waits until they are known."""
        await self._there.wait()
        return self._own

    def masquerade(self, ranges: Sequence[str]) -> None:
        """The ranges of all pods of the cluster: what goes there keeps its source. Raises OSError."""
        self._all = tuple(ranges)
        if self._plugins is None:
            nft.masquerade(BRIDGE, [*dict.fromkeys((*self._own, *self._all))])
        self._save()

    async def problems(self) -> Sequence[str]:
        """Why no pod can be attached now."""
        if self._plugins is not None:
            return await self._plugins.problems()
        return [] if self._pods is not None else ["this node has no ranges of pod addresses yet (podCIDRs)"]

    async def attach(self, sandbox: SandboxSpec, namespace: str) -> tuple[str, ...]:
        return await (await self._ready()).attach(sandbox, namespace)

    async def detach(self, sandbox: str) -> None:
        await (await self._ready()).detach(sandbox)

    async def keep(self, sandboxes: Sequence[SandboxStatus]) -> None:
        self._sandboxes = sandboxes
        if (network := self._plugins or self._pods) is not None:
            await network.keep(sandboxes)

    async def _ready(self) -> Network:
        if self._plugins is not None:
            return self._plugins
        if self._pods is None:
            log.info("a pod waits for this node's ranges of pod addresses (podCIDRs)")
            await self._there.wait()
        assert self._pods is not None
        return self._pods

    def _make(self, settings: Settings | None) -> PodNetwork:
        everywhere = tuple(dict.fromkeys((*self._own, *self._all)))
        network = ClusterNetwork(BRIDGE, self._own, everywhere, paths.run_root())
        for missing in [*setup_cluster_network(network), *guard_sources(NAMESPACE, BRIDGE)]:
            log.warning("%s", missing)
        with OverlayLink() as link:
            outer = (link.mtu_of(settings.address) if settings else 0) or outgoing_mtu(link)
        mtu = inner_mtu(settings, outer) if settings else outer
        return PodNetwork(NAMESPACE, self._own, self._root / "addresses", mtu)

    def _remembered(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _save(self) -> None:
        wanted = {"own": list(self._own), "all": list(self._all)}
        if wanted != self._remembered():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, wanted)


def _forget_gateways() -> None:
    """Another node may have the old ranges: this one must not think that they are its own."""
    with Netlink() as link, contextlib.suppress(OSError):
        link.delete_link(BRIDGE)
