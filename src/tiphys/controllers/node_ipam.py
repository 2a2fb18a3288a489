"""Gives each node its range of pod addresses, cut from the cluster's."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from tiphys.base.errors import Permanent
from tiphys.client.events import NORMAL
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, name, spec, uid

Network = IPv4Network | IPv6Network


def next_free(cluster: Network, prefix: int, taken: Iterable[str]) -> Network | None:
    """The first range of that prefix length that overlaps none of `taken`; None when all are in use."""
    size = 1 << (cluster.max_prefixlen - prefix)
    first = int(cluster.network_address)
    used: set[int] = set()
    for text in taken:
        other = ip_network(text, strict=False)
        if other.version == cluster.version and other.overlaps(cluster):
            low, high = int(other.network_address) - first, int(other.broadcast_address) - first
            used.update(range(max(0, low // size), high // size + 1))
    count = cluster.num_addresses // size
    number = next((each for each in range(count) if each not in used), None)
    if number is None:
        return None
    return ip_network((first + number * size, prefix))


def ranges_of(node: Object) -> list[str]:
    wanted = spec(node)
    return list(wanted.get("podCIDRs") or ([wanted["podCIDR"]] if wanted.get("podCIDR") else []))


class NodeIpamController(Controller):
    """Keys are nodes. One worker: two must not give away the same range."""

    name = "node-ipam-controller"
    account = "node-controller"
    component = "cidrAllocator"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._clusters = [ip_network(each) for each in str(settings.get("cluster-cidr", "")).split(",") if each]
        self._prefixes = {
            4: int(settings.get("node-cidr-mask-size", 24)),
            6: int(settings.get("node-cidr-mask-size-ipv6", 64)),
        }
        self._given: dict[str, list[str]] = {}
        self._nodes = self.watch(NODES)
        self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get("", key)
        if node is None or deleting(node) or ranges_of(node) or not self._clusters:
            return None
        wanted = self._given.get(key) or self._choose(node)
        self._given[key] = wanted
        patch = {"metadata": {"uid": uid(node)}, "spec": {"podCIDR": wanted[0], "podCIDRs": wanted}}
        await self.client.patch(NODES, key, patch, type=STRATEGIC_PATCH)
        return None

    def _choose(self, node: Object) -> list[str]:
        taken = [text for each in self._nodes.list() for text in ranges_of(each)]
        taken += [text for given in self._given.values() for text in given]
        chosen = []
        for cluster in self._clusters:
            network = next_free(cluster, self._prefixes[cluster.version], taken)
            if network is None:
                ref = {"kind": "Node", "apiVersion": "v1", "name": name(node), "uid": uid(node)}
                message = f"Node {name(node)} status is now: CIDRNotAvailable"
                self.recorder.about(ref, NORMAL, "CIDRNotAvailable", message)
                raise Permanent(f"no pod addresses are left in {cluster} for node {name(node)}")
            chosen.append(str(network))
        return chosen

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._given.pop(name(old), None)
            for node in self._nodes.list():
                if not ranges_of(node):
                    self.queue.add(name(node))
        elif new is not None:
            if ranges_of(new):
                self._given.pop(name(new), None)
            else:
                self.queue.add(name(new))
