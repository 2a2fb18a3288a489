"""The ranges from which Services get addresses: those of the ServiceCIDRs that are ready (KEP-1880).

While there is no default ServiceCIDR, which is how a new store begins, the range of --service-cluster-ip-range stands
for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any, Protocol

from tiphys.api.validation.addresses import parse_cidr
from tiphys.apiserver.cache import ResourceCache

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

DEFAULT = "kubernetes"


class Ranges(Protocol):
    """From where Services get addresses."""

    @property
    def families(self) -> Sequence[str]:
        """Of which families they can be ("IPv4", "IPv6"), the default one first."""
        ...

    def networks(self) -> Sequence[Network]:
        """The ranges of all families; within one, in the order in which they are used."""
        ...


def configured_networks(text: str) -> tuple[Network, ...]:
    """What --service-cluster-ip-range says: one range, or two of different families. Raises ValueError."""
    networks = tuple(ip_network(each.strip()) for each in text.split(","))
    versions = [network.version for network in networks]
    if len(networks) > 2:
        raise ValueError("--service-cluster-ip-range must not contain more than two entries")
    if len(set(versions)) < len(versions):
        text = "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family"
        raise ValueError(text)
    return networks


class ServiceRanges:
    """`cache` holds the ServiceCIDRs; `configured` is the flag's value, which says of which families all can be."""

    def __init__(self, cache: ResourceCache, configured: str) -> None:
        self._cache, self._configured = cache, configured_networks(configured)
        self.families = tuple(f"IPv{network.version}" for network in self._configured)
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
            yield from self._configured
        for cidr in sorted(cidrs, key=lambda each: each["metadata"]["name"] != DEFAULT):
            if not _is_ready(cidr):
                continue
            for text in (cidr.get("spec") or {}).get("cidrs") or ():
                parsed = parse_cidr(text)
                if parsed is not None and f"IPv{parsed[1].version}" in self.families:
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
