"""Nodes on several machines: keeps this machine's routes to the pods of the others as Node objects say.

Runs in a node's process, or in the control plane's for all nodes of its machine. What is in the kernel stays when the
process ends, and is looked at again at its start: a restart changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from tiphys.base.clock import Clock
from tiphys.client.informer import Informer
from tiphys.client.types import Object
from tiphys.overlay import plan
from tiphys.overlay.links import OverlayLink
from tiphys.overlay.peers import peers_of, pod_ranges
from tiphys.overlay.types import HOST_ROUTES, VXLAN, Entries, Network, Peer, Settings

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds until what the kernel refused is tried again: a route may need a link that is not up yet."""


class Overlay:
    """`nodes` is an informer of Nodes; `here` are those of this machine, `ranges_here` what no other one has; `opened`
    makes a route socket where the routes belong. `changed` is told the ranges of all pods of the cluster whenever they
    change."""

    def __init__(
        self,
        settings: Settings,
        nodes: Informer,
        clock: Clock,
        *,
        here: Callable[[], frozenset[str]],
        ranges_here: Sequence[Network] = (),
        opened: Callable[[], OverlayLink] = OverlayLink,
        changed: Callable[[list[str]], None] = lambda ranges: None,
    ) -> None:
        self._settings, self._nodes, self._clock = settings, nodes, clock
        self._here, self._opened, self._ranges_changed = here, opened, changed
        self._ranges_here = ranges_here
        self._wake = asyncio.Event()
        self._ranges: list[str] | None = None
        self._failed: list[str] = []
        self._warned = False

    async def run(self) -> None:
        """Until cancelled."""
        self._nodes.subscribe(self._changed)
        try:
            await self._nodes.wait_synced()
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._wake.clear()
                    retry = None
                    if await self._apply():
                        retry = tasks.create_task(self._wake_later(), name="overlay, another try")
                    await self._wake.wait()
                    if retry:
                        retry.cancel()
        finally:
            self._nodes.unsubscribe(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _told(old) != _told(new):
            self._wake.set()

    async def _wake_later(self) -> None:
        await self._clock.sleep(RETRY)
        self._wake.set()

    async def _apply(self) -> bool:
        """Whether something failed."""
        nodes = self._nodes.list()
        settings = self._settings
        peers = peers_of(nodes, settings.address, self._here(), settings.version, self._ranges_here)
        self._tell_unreached(peers)
        ranges = pod_ranges(nodes)
        failed = []
        try:
            if ranges != self._ranges:
                await asyncio.to_thread(self._ranges_changed, ranges)
                self._ranges = ranges
            failed = await asyncio.to_thread(self._write, plan.wanted(self._settings, peers))
        except OSError as error:
            failed = [str(error.strerror)]
        for text in failed:
            if text not in self._failed:
                log.warning("pods of other machines may not be reached: %s", text)
        self._failed = failed
        return bool(failed)

    def _tell_unreached(self, peers: Sequence[Peer]) -> None:
        """Without VXLAN only what is of the machines' own IP version is reached."""
        version = self._settings.version
        other = any(subnet.version != version for peer in peers for subnet in peer.subnets)
        if other and self._settings.mode == HOST_ROUTES and not self._warned:
            log.warning("host routes lead to IPv%d addresses only; the others need VXLAN", version)
            self._warned = True

    def _write(self, target: Entries) -> list[str]:
        with self._opened() as link:
            if self._settings.mode == VXLAN:
                link.ensure_device(self._settings)
            elif link.index(self._settings.device):
                link.delete_link(self._settings.device)
            change = plan.difference(link.entries(self._settings), target)
            return link.apply(self._settings, change) if change else []


def _told(node: Object) -> tuple[object, ...]:
    """What of a Node matters here; heartbeats do not."""
    return (
        (node.get("spec") or {}).get("podCIDRs"),
        (node.get("status") or {}).get("addresses"),
        node["metadata"].get("annotations"),
    )


def remove(settings: Settings, opened: Callable[[], OverlayLink] = OverlayLink) -> list[str]:
    """Take everything of the overlay out of the kernel; returns what could not be removed, and why."""
    try:
        with opened() as link:
            failed = link.apply(settings, plan.difference(link.entries(settings), Entries()))
            if link.index(settings.device):
                link.delete_link(settings.device)
            return failed
    except OSError as error:
        return [f"device {settings.device}: {error.strerror}"]
