"""The ranges from which Services get addresses: those of the ServiceCIDRs that are ready (KEP-1880).

While there is no default ServiceCIDR, which is how a new store begins, the range of --service-cluster-ip-range stands
for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from tiphys.api.validation.addresses import parse_cidr
from tiphys.apiserver.cache import ResourceCache

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

DEFAULT = "kubernetes"


class ServiceRanges:
    """`cache` holds the ServiceCIDRs; `configured` is the flag's range, whose IP version all others must have."""

    def __init__(self, cache: ResourceCache, configured: str) -> None:
        self._cache, self._configured = cache, ip_network(configured)
        self._seen = -1
        self._networks: tuple[Network, ...] = ()

    def networks(self) -> tuple[Network, ...]:
        """The ranges now, the default one first."""
        if self._seen != self._cache.last_revision:
            self._seen = self._cache.last_revision
            cidrs = [self._cache.obj(entry) for entry in self._cache.range()]
            self._networks = tuple(dict.fromkeys(self._ready(cidrs)))
        return self._networks

    def _ready(self, cidrs: Sequence[Mapping[str, Any]]) -> Iterator[Network]:
        if all(cidr["metadata"]["name"] != DEFAULT for cidr in cidrs):
            yield self._configured
        for cidr in sorted(cidrs, key=lambda each: each["metadata"]["name"] != DEFAULT):
            if not _is_ready(cidr):
                continue
            for text in (cidr.get("spec") or {}).get("cidrs") or ():
                parsed = parse_cidr(text)
                if parsed is not None and parsed[1].version == self._configured.version:
                    yield parsed[1]


def _is_ready(cidr: Mapping[str, Any]) -> bool:
    """A ServiceCIDR that says nothing is ready: its controller may be late."""
    if cidr["metadata"].get("deletionTimestamp"):
        return False
    conditions = (cidr.get("status") or {}).get("conditions") or ()
    return all(each.get("status") == "True" for each in conditions if each.get("type") == "Ready")


def gives(network: Network, address: Address) -> bool:
    """Whether the range may give out that address: not its first one, nor the last one of an IPv4 range."""
    if address not in network or address == network.network_address:
        return False
    return network.version == 6 or address != network.broadcast_address
