"""A range of addresses that is given out in equal parts: which are taken, and which is next. Pure.

Parts are given out in turn, as upstream's allocator does it: what was released is not used again at once, when others
may still have it in their routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from tiphys.base.errors import Permanent

Network = IPv4Network | IPv6Network

_DEFAULT = {4: 24, 6: 64}
_WIDEST_V6 = 16
"""Bits by which parts of an IPv6 range may be smaller than it."""


class CidrRange:
    """`cluster` in parts of the prefix length `size`."""

    def __init__(self, cluster: Network, size: int) -> None:
        if cluster.prefixlen > size:
            text = "mask size of cluster CIDR must be less than or equal to --node-cidr-mask-size"
            raise Permanent(f"invalid --cluster-cidr, {text} configured for CIDR family")
        if cluster.version == 6 and size - cluster.prefixlen > _WIDEST_V6:
            raise Permanent("new CIDR set failed; the node CIDR size is too big")
        self._cluster, self._size = cluster, size
        self._count = 1 << (size - cluster.prefixlen)
        self._step = 1 << (cluster.max_prefixlen - size)
        self._used: set[int] = set()
        self._reserved: set[int] = set()
        self._next = 0

    def __str__(self) -> str:
        return str(self._cluster)

    def take(self) -> Network | None:
        """The next free part; None if there is none."""
        if len(self._used) >= self._count:
            return None
        number = self._next
        while number in self._used:
            number = (number + 1) % self._count
        self._next = (number + 1) % self._count
        self._used.add(number)
        return ip_network((int(self._cluster.network_address) + number * self._step, self._size))

    def occupy(self, network: Network) -> bool:
        """Take the parts that a network has something of; False if it is no part of this range."""
        found = self._numbers(network)
        self._used.update(found)
        return bool(found)

    def reserve(self, network: Network) -> None:
        """The parts that the network has something of are given to nobody, ever."""
        self._reserved.update(self._numbers(network))
        self._used |= self._reserved

    def release(self, network: Network) -> None:
        """They are free again."""
        self._used.difference_update({*self._numbers(network)} - self._reserved)

    def _numbers(self, network: Network) -> range:
        if network.version != self._cluster.version:
            return range(0)
        first = int(self._cluster.network_address)
        low, high = int(network.network_address) - first, int(network.broadcast_address) - first
        return range(max(0, low // self._step), min(self._count - 1, high // self._step) + 1)


def cluster_ranges(settings: Mapping[str, Any]) -> list[CidrRange]:
    """The ranges of `cluster-cidr`, without those of Services and `reserved-cidrs`. Raises Permanent for settings that
    make no sense."""
    clusters = _networks(str(settings.get("cluster-cidr") or ""))
    versions = [each.version for each in clusters]
    if len(clusters) > 2:
        raise Permanent(f"length of clusterCIDRs is:{len(clusters)} more than max allowed of 2")
    if len(set(versions)) < len(versions):
        text = "and they are not configured as dual stack (at least one from each IPFamily"
        raise Permanent(f"len of ClusterCIDRs=={len(clusters)} {text}")
    sizes = _sizes(settings, versions)
    ranges = [CidrRange(each, sizes[each.version]) for each in clusters]
    services = _networks(str(settings.get("service-cluster-ip-range") or ""))
    for others in (*services, *settings.get("reserved-cidrs", ())):
        for each in ranges:
            each.reserve(others)
    return ranges


def _networks(text: str) -> list[Network]:
    try:
        return [ip_network(each.strip(), strict=False) for each in text.split(",") if each.strip()]
    except ValueError as error:
        raise Permanent(f"{text}: {error}") from error


def _sizes(settings: Mapping[str, Any], versions: Sequence[int]) -> dict[int, int]:
    """Prefix length of a node's part by IP version."""
    both, v4, v6 = (int(settings.get(f"node-cidr-mask-size{suffix}") or 0) for suffix in ("", "-ipv4", "-ipv6"))
    if len(versions) > 1 and both:
        raise Permanent("usage of --node-cidr-mask-size is not allowed with dual-stack clusters")
    if both and (v4 or v6):
        raise Permanent(
            "usage of --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6 is not allowed if "
            "--node-cidr-mask-size is set. For dual-stack clusters please unset it and use IPFamily specific flags"
        )
    for version, other, given in ((4, 6, v4), (6, 4, v6)):
        if given and versions == [other]:
            text = f"is not allowed for a single-stack IPv{other} cluster"
            raise Permanent(f"usage of --node-cidr-mask-size-ipv{version} {text}")
    return {4: both or v4 or _DEFAULT[4], 6: both or v6 or _DEFAULT[6]}
