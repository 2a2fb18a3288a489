"""What a Service proxy is told about its place: a node of the cluster, or the host of many nodes."""

from __future__ import annotations

from dataclasses import dataclass

RANDOM, ROUND_ROBIN = BALANCINGS = "random", "round-robin"

BALANCING = "tiphys.io/balancing"
"""The annotation of a Service that chooses for it: random or round-robin."""


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """`node` is the node's name; "" for the host, which is no node: it has no node ports, and its local endpoints are
    those in `near`. Ranges are CIDRs of either address family."""

    node: str = ""
    table: str = "tiphys-services"
    """Of the same name for IPv4 and IPv6."""
    families: tuple[str, ...] = ("IPv4",)
    local_pods: tuple[str, ...] = ()
    """The addresses of the node's own pods. Who else asks for a cluster IP here is masqueraded."""
    near: tuple[str, ...] = ()
    """For the host: addresses whose answers to the outside come back this way, so that sources can be kept."""
    service_ranges: tuple[str, ...] = ()
    """Addresses that only Services have, beside those of the ServiceCIDRs: what is nobody's is refused."""
    node_ips: tuple[str, ...] = ()
    node_port_addresses: tuple[str, ...] = ()
    """On which local addresses node ports answer; on all, but for the loopback ones, when empty."""
    masquerade_all: bool = False
    """Whether traffic to cluster IPs is masqueraded whoever sends it."""
    masquerade_own: bool = False
    """Whether the node's own traffic to cluster IPs is masqueraded. Where nodes have several networks, as
    most of those that others make, its source must be that of the way out, or the answer is lost."""
    masquerade_bit: int = 14
    """Of the packet mark, from 0 to 31."""
    balancing: str = RANDOM
