"""Gives each node its ranges of pod addresses, cut from the cluster's (see `cidr_ranges`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from ipaddress import ip_network

from tiphys.base.errors import ApiError, NotFound, Permanent
from tiphys.client.events import NORMAL
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.cidr_ranges import CidrRange, Network, cluster_ranges
from tiphys.controllers.objects import deleting, name, spec, uid

log = logging.getLogger(__name__)

_ATTEMPTS = 3


def ranges_of(node: Object) -> list[Network]:
    """What a node has; what cannot be read is left out."""
    wanted = spec(node)
    found = []
    for text in wanted.get("podCIDRs") or ([wanted["podCIDR"]] if wanted.get("podCIDR") else []):
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            log.warning("node %s has the range %r, which is none", name(node), text)
    return found


def has_ranges(node: Object) -> bool:
    return bool(spec(node).get("podCIDRs") or spec(node).get("podCIDR"))


class NodeIpamController(Controller):
    """Keys are nodes. One worker: two must not give away the same range."""

    name = "node-ipam-controller"
    account = "node-controller"
    component = "cidrAllocator"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._clusters = cluster_ranges(context.settings)
        self._fixed: Callable[[str], Sequence[str]] = context.settings.get("node-ranges") or (lambda name: ())
        """The ranges that a node has in any case, by name: they are only written down."""
        self._nodes = self.watch(NODES)
        self._given: dict[str, list[Network]] = {}
        """By node's UID, until the cache shows it too: it may still have an older node."""
        if self._clusters:
            self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get("", key)
        if node is None or deleting(node) or has_ranges(node) or uid(node) in self._given:
            return None
        wanted = [ip_network(each) for each in self._fixed(name(node))] or self._take(node)
        try:
            await self._write(node, [str(each) for each in wanted])
        except (ApiError, OSError):
            self._release(wanted)
            raise
        self._given[uid(node)] = wanted
        return None

    def _take(self, node: Object) -> list[Network]:
        """A part of each range. Raises Permanent when one of them is used up: the end of a node brings us back."""
        taken: list[Network] = []
        for number, cluster in enumerate(self._clusters):
            part = cluster.take()
            if part is None:
                self._release(taken)
                self._tell(node, "CIDRNotAvailable")
                text = "CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range"
                raise Permanent(f"failed to allocate cidr from cluster cidr at idx:{number}: {text}")
            taken.append(part)
        return taken

    async def _write(self, node: Object, ranges: list[str]) -> None:
        patch = {"metadata": {"uid": uid(node)}, "spec": {"podCIDR": ranges[0], "podCIDRs": ranges}}
        for attempt in range(_ATTEMPTS):
            try:
                await self.client.patch(NODES, name(node), patch, type=STRATEGIC_PATCH)
            except NotFound:
                raise
            except (ApiError, OSError):
                if attempt == _ATTEMPTS - 1:
                    self._tell(node, "CIDRAssignmentFailed")
                    raise
            else:
                return

    def _tell(self, node: Object, state: str) -> None:
        ref = {"kind": "Node", "apiVersion": "v1", "name": name(node), "uid": uid(node)}
        self.recorder.about(ref, NORMAL, state, f"Node {name(node)} status is now: {state}")

    def _release(self, networks: list[Network]) -> None:
        for cluster, network in zip(self._clusters, networks, strict=False):
            cluster.release(network)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            given = self._given.pop(uid(old), [])
            self._release(ranges_of(old) or given)
            for node in self._nodes.list():
                if not has_ranges(node):
                    self.queue.add(name(node))
        elif new is not None and not has_ranges(new):
            self.queue.add(name(new))
        elif new is not None and (old is None or ranges_of(old) != ranges_of(new)):
            self._given.pop(uid(new), None)
            _occupy(self._clusters, new)


def _occupy(clusters: list[CidrRange], node: Object) -> None:
    """A node has ranges: those that it got before this start, or that somebody gave it."""
    for number, network in enumerate(ranges_of(node)):
        if number >= len(clusters) or not clusters[number].occupy(network):
            known = ",".join(map(str, clusters))
            log.warning("node %s has the range %s, which is no part of the cluster's %s", name(node), network, known)
