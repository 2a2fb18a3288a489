"""Certificate requests of nodes that are approved beyond what upstream approves. Pure.

A node may have the certificate by which its service proxy asks the API server, as every node has one; and a serving
certificate of its own name and of those addresses that its Node object has.
"""

from __future__ import annotations

from collections.abc import Collection
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


def is_own_server(request: Object, csr: x509.CertificateSigningRequest, node: Object | None) -> bool:
    """Whether a node asks for a serving certificate with no other names and addresses than its own."""
    wanted, name = spec(request), asking_node(request)
    if wanted.get("signerName") != KUBELET_SERVING or not name or node is None:
        return False
    try:
        csr_rules.check_kubelet_serving(csr, wanted.get("usages") or ())
    except csr_rules.Refused:
        return False
    names = csr_rules.alternative_names(csr)
    return (
        csr_rules.common_name(csr) == NODE + name
        and set(names["DNS"]) <= {name, *_addresses(node, ("Hostname", "InternalDNS", "ExternalDNS"))}
        and {str(each) for each in names["IP"]} <= set(_addresses(node, ("InternalIP", "ExternalIP")))
    )


def _addresses(node: Object, kinds: Collection[str]) -> list[str]:
    return [one["address"] for one in status(node).get("addresses") or () if one.get("type") in kinds]
