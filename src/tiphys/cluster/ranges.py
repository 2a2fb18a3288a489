"""Which addresses a cluster has: they follow from its index and its IP families. Pure.

Clusters of one machine have different indexes, so they share no address:

    IPv4   nodes 10.89.INDEX.0/24       pods 10.(244-INDEX).0.0/16, a /24 a node    services 10.(96+INDEX).0.0/16
    IPv6   nodes fd74:6970:68XX::/64    pods fd74:6970:68XX:1000::/52, a /64 a node services fd74:6970:68XX:2::/112

The IPv6 ones are unique local addresses (RFC 4193); XX is the index in hexadecimal. Node number n has the address n
after the gateway and the pods' part n.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_NODES = 200
IP_FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}
"""What `tiphys up --ip-family` takes, and the IP versions that it means, the primary one first."""

_PREFIX = 0xFD74_6970_6800
"""The first 48 bits of IPv6 ranges, with index 0."""
_BALANCERS_V6 = 0x1000, 0x1FFF


@dataclass(frozen=True, slots=True)
class Ranges:
    """The ranges of one IP version."""

    nodes: Network
    pods: Network
    services: Network
    pods_of_a_node: int
    """Prefix length."""
    balancers: tuple[int, int]
    """First and last address for load balancers, counted in the nodes' range: no node can have them."""

    @property
    def version(self) -> int:
        return self.nodes.version

    @property
    def gateway(self) -> Address:
        """The host's own address among the nodes."""
        return self.nodes[1]

    def node_address(self, number: int) -> Address:
        """The address of node `number`; the first one is 1."""
        return self.nodes[number + 1]

    def pod_cidr(self, number: int) -> Network:
        """The range of the pods of node `number`."""
        step = 1 << (self.pods.max_prefixlen - self.pods_of_a_node)
        return type(self.pods)((int(self.pods.network_address) + number * step, self.pods_of_a_node))

    @property
    def pods_here(self) -> tuple[Network, ...]:
        """All that nodes of this machine can have; the rest is for nodes that join from others."""
        first, last = self.pods, self.pod_cidr(MAX_NODES)
        if isinstance(first, IPv4Network) and isinstance(last, IPv4Network):
            return tuple(summarize_address_range(first[0], last[-1]))
        return tuple(summarize_address_range(IPv6Address(int(first[0])), IPv6Address(int(last[-1]))))

    @property
    def load_balancers(self) -> str:
        """FIRST-LAST."""
        first, last = self.balancers
        return f"{self.nodes[first]}-{self.nodes[last]}"

    def __iter__(self) -> Iterator[Network]:
        return iter((self.nodes, self.pods, self.services))


def ranges_of(index: int, ip_family: str) -> tuple[Ranges, ...]:
    """The ranges of a cluster, one set for each of its IP versions, the primary one first."""
    return tuple(_v6(index) if version == 6 else _v4(index) for version in IP_FAMILIES[ip_family])


def _v4(index: int) -> Ranges:
    nodes = IPv4Network(f"10.89.{index}.0/24")
    pods, services = IPv4Network(f"10.{244 - index}.0.0/16"), IPv4Network(f"10.{96 + index}.0.0/16")
    return Ranges(nodes, pods, services, 24, (MAX_NODES + 2, nodes.num_addresses - 2))


def _v6(index: int) -> Ranges:
    site = (_PREFIX + index) << 80
    nodes, pods = IPv6Network((site, 64)), IPv6Network((site + (0x1000 << 64), 52))
    return Ranges(nodes, pods, IPv6Network((site + (2 << 64), 112)), 64, _BALANCERS_V6)
