"""Which other machines there are and what is behind them, from Node objects. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from tiphys.client.types import Object
from tiphys.overlay.types import ADDRESS, SUBNETS, Network, Peer

log = logging.getLogger(__name__)

_NODE_RANGES = (ip_network("10.89.0.0/16"), ip_network("fd74:6970:6800::/40"))
"""Where clusters of one machine have their nodes' addresses: nothing else may be claimed for them."""


def peers_of(
    nodes: Iterable[Object], own: str, nodes_here: frozenset[str], version: int, ranges_here: Sequence[Network] = ()
) -> list[Peer]:
    """The machines other than this one, whose address is `own`, by their addresses of the IP version.

    Several Nodes may be behind one machine. Of two Nodes that claim addresses in common the older one has them: a node
    can make its own object, whatever it writes into it. Those of `ranges_here` are this machine's in any case."""
    claimed: list[Network] = []
    behind: dict[str, list[Network]] = {}
    for node in sorted(nodes, key=_age):
        address = _address(node, version)
        taken = claimed if _name(node) in nodes_here else [*ranges_here, *claimed]
        ranges = [each for each in (*_pod_ranges(node), *_node_ranges(node)) if not _is_taken(node, each, taken)]
        claimed += ranges
        if address and address != own and _name(node) not in nodes_here:
            behind.setdefault(address, []).extend(ranges)
    return [Peer(address, tuple(dict.fromkeys(ranges))) for address, ranges in sorted(behind.items()) if ranges]


def pod_ranges(nodes: Iterable[Object]) -> list[str]:
    """All pods' ranges: what stays in the cluster."""
    return sorted({str(each) for node in nodes for each in _pod_ranges(node)})


def own_ranges(node: Object | None) -> tuple[str, ...]:
    """The ranges of the pods of one node, the primary one first; none if it has none yet."""
    return tuple(str(each) for each in _pod_ranges(node)) if node else ()


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _age(node: Object) -> tuple[str, str]:
    return str(node["metadata"].get("creationTimestamp") or ""), _name(node)


def _annotations(node: Object) -> Mapping[str, str]:
    return node["metadata"].get("annotations") or {}


def _internal(node: Object) -> Iterator[str]:
    for entry in (node.get("status") or {}).get("addresses") or ():
        if entry.get("type") == "InternalIP":
            yield entry.get("address", "")


def _address(node: Object, version: int) -> str:
    for text in (_annotations(node).get(ADDRESS, ""), *_internal(node)):
        try:
            address = ip_address(text)
        except ValueError:
            continue
        if address.version == version and not address.is_loopback:
            return str(address)
    return ""


def _pod_ranges(node: Object) -> list[Network]:
    spec = node.get("spec") or {}
    return list(_networks(node, spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])))


def _node_ranges(node: Object) -> Iterator[Network]:
    """Ranges of node addresses that it claims: believed only where its own address is in them."""
    text = _annotations(node).get(SUBNETS, "")
    for claimed in _networks(node, text.split(",") if text else []):
        mine = any(_in(address, claimed) for address in _internal(node))
        if mine and any(_within(claimed, each) for each in _NODE_RANGES):
            yield claimed


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner[0] in outer and inner[-1] in outer


def _in(address: str, network: Network) -> bool:
    try:
        return ip_address(address) in network
    except ValueError:
        return False


def _networks(node: Object, texts: Iterable[str]) -> Iterator[Network]:
    for text in texts:
        try:
            yield ip_network(text.strip(), strict=False)
        except ValueError:
            log.warning("node %s has the range %r, which is none", _name(node), text)


def _is_taken(node: Object, wanted: Network, claimed: Iterable[Network]) -> bool:
    clash = next((each for each in claimed if each.version == wanted.version and each.overlaps(wanted)), None)
    if clash is not None and clash != wanted:
        log.warning("node %s claims %s, of which another node has %s: left out", _name(node), wanted, clash)
    return clash is not None
