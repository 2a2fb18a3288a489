"""Certificate requests of nodes that are approved beyond what upstream approves. Pure.

A node may have the certificate by which its service proxy asks the API server, as every node has one; and a serving
certificate of its own name and of those addresses that its Node object has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from tiphys.client.types import Object
from tiphys.controllers import csr_rules
from tiphys.controllers.csr_rules import CLIENT, CLIENT_AUTH, KUBELET_SERVING, NODE, NODES, SIGNATURE
from tiphys.controllers.objects import spec, status

if TYPE_CHECKING:
    from cryptography import x509

SIGNERS = (CLIENT, KUBELET_SERVING)
PROXY, PROXIERS = "system:kube-proxy", "system:node-proxier"
NETWORK_MESSAGE = "Auto approving the client certificate of a node's service proxy."
SERVING_MESSAGE = "Auto approving kubelet serving certificate for the node's own name and addresses."


def asking_node(request: Object) -> str:
    """The name of the node that made the request, as the API server knows it; "" for anybody else."""
    wanted = spec(request)
    username = str(wanted.get("username") or "")
    return username.removeprefix(NODE) if username.startswith(NODE) and NODES in (wanted.get("groups") or ()) else ""


def is_network_account(request: Object, csr: x509.CertificateSigningRequest) -> bool:
    """Whether a node asks for the account of its service proxy."""
    wanted = spec(request)
    return (
        wanted.get("signerName") == CLIENT
        and bool(asking_node(request))
        and csr_rules.common_name(csr) == PROXY
        and csr_rules.organizations(csr) == [PROXIERS]
        and not any(csr_rules.alternative_names(csr).values())
        and set(wanted.get("usages") or ()) == {SIGNATURE, CLIENT_AUTH}
    )


@dataclass(frozen=True, slots=True)
class Reserved:
    """What no node of another machine is ever called: the API server's names, the addresses of this machine's part.
    A node says itself what its addresses are; and whoever has a certificate of one of these could be taken for the API
    server."""

    names: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def has(self, name: str) -> bool:
        """Whether the name or address is one of them."""
        if name in self.names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or address.is_unspecified or any(address in each for each in self.networks)


def is_own_server(
    request: Object, csr: x509.CertificateSigningRequest, nodes: Collection[Object], reserved: Reserved
) -> bool:
    """Whether a node asks for a serving certificate of its name and its addresses, which are nobody else's."""
    wanted, name = spec(request), asking_node(request)
    node = next((each for each in nodes if each["metadata"]["name"] == name), None)
    if wanted.get("signerName") != KUBELET_SERVING or not name or node is None:
        return False
    try:
        csr_rules.check_kubelet_serving(csr, wanted.get("usages") or ())
    except csr_rules.Refused:
        return False
    names = csr_rules.alternative_names(csr)
    addresses = {str(each) for each in names["IP"]}
    others = {address for each in nodes if each is not node for address in _addresses(each)}
    return (
        csr_rules.common_name(csr) == NODE + name
        and set(names["DNS"]) <= {name}
        and addresses <= {*_addresses(node)} - others
        and not any(reserved.has(each) for each in (name, *addresses))
    )


def _addresses(node: Object) -> list[str]:
    kinds = ("InternalIP", "ExternalIP")
    return [one["address"] for one in status(node).get("addresses") or () if one.get("type") in kinds]
