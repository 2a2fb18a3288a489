"""The enforcer of network policies of a node, put together: its account at the API server, the node's own firewall."""

from __future__ import annotations

from tiphys.base.clock import Clock
from tiphys.base.nftables import Nftables
from tiphys.client.types import Client
from tiphys.proxy.policies.enforcer import PolicyEnforcer
from tiphys.proxy.policies.names import NameServer
from tiphys.runtime import netns
from tiphys.runtime.node import NodeNetwork


def enforcer(
    namespace: NodeNetwork, client: Client, clock: Clock, dns_addresses: tuple[str, ...] = ()
) -> PolicyEnforcer:
    """`client` may list and watch pods, namespaces and policies (network_role); `dns_addresses` are those of the
    Service of name servers."""
    path = namespace.namespace
    server = NameServer((*namespace.addresses, *dns_addresses))
    return PolicyEnforcer(client, clock, lambda: Nftables(lambda work: netns.inside(path, work)), server=server)
