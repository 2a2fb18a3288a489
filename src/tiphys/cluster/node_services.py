"""The Service proxy of a node, put together: what it is told of the cluster, and the node's own firewall."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, summarize_address_range
from typing import TYPE_CHECKING

from tiphys.base.nftables import Nftables
from tiphys.base.nftwatch import TableWatch
from tiphys.cluster.config import ClusterConfig
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.proxy import ServiceProxy
from tiphys.proxy.services.state import Observer
from tiphys.runtime import netns

if TYPE_CHECKING:
    from tiphys.cluster.node_network import Parts, Place


def service_proxy(parts: Parts, observers: Sequence[Observer] = ()) -> ServiceProxy:
    """The proxy in the node's network namespace; its informers are asked for here."""
    namespace = parts.place.namespace
    return ServiceProxy(
        parts.informers,
        parts.clock,
        proxy_config(parts.place),
        lambda: Nftables(lambda work: netns.inside(namespace, work)),
        observers,
        lambda: TableWatch(lambda work: netns.inside(namespace, work)),
    )


def proxy_config(place: Place) -> ProxyConfig:
    return ProxyConfig(
        node=place.name,
        families=place.families,
        local_pods=place.pod_cidrs,
        node_ips=place.addresses,
        balancing=place.balancing,
    )


def families(config: ClusterConfig) -> tuple[str, ...]:
    """As the API names them, the primary one first."""
    return tuple(f"IPv{ranges.version}" for ranges in config.ranges)


def host_config(config: ClusterConfig) -> ProxyConfig:
    """For the proxy of the host: what it sends to the machine's nodes and pods comes back by it."""
    near = (*config.node_networks, *config.pods_here)
    return ProxyConfig(
        table=host_table(config.bridge),
        families=families(config),
        local_pods=tuple(map(str, config.pod_networks)),
        near=tuple(map(str, near)),
        balancing=config.balancing,
        service_ranges=load_balancers(config),
    )


def load_balancers(config: ClusterConfig) -> tuple[str, ...]:
    """The addresses of load balancers, as CIDRs."""
    found: list[str] = []
    for pair in config.load_balancers.split(","):
        first, last = map(ip_address, pair.split("-"))
        found += map(str, summarize_address_range(first, last))
    return tuple(found)


def host_table(bridge: str) -> str:
    """The name of the host's tables (ip and ip6), from that of the cluster's bridge."""
    return f"{bridge}-services"
