"""Whether policies let a pod ask the cluster's name server, which is no pod here. Pure.

What a pod sends to its own node is its own business, whatever policies say; but a policy that lets nothing out is
expected to stop names, too, as it does where the server is a pod, and policies that let it out name that pod: the
labels k8s-app=kube-dns in kube-system and port 53. So the server counts as such a pod, at the node's addresses and the
Service's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tiphys.proxy.policies.policy import Allowance, Policy, Ports
from tiphys.proxy.policies.ranges import contains, family_of, of_address
from tiphys.proxy.policies.render import NAME_SERVER_PORT

NAMESPACE = "kube-system"
LABELS = {"k8s-app": "kube-dns"}
ASKED = 53
NAMED = {"udp": "dns", "tcp": "dns-tcp"}
NUMBERS = {"udp": 17, "tcp": 6}
PROTOCOLS = tuple(NAMED)


@dataclass(frozen=True, slots=True)
class NameServer:
    """The node's own. `addresses` are those that blocks of policies may name."""

    addresses: tuple[str, ...]
    port: int = NAME_SERVER_PORT


def refused(policies: Iterable[Policy], server: NameServer, labels: Mapping[str, str] | None) -> tuple[str, ...]:
    """Protocols by which none of the policies lets a pod ask; `labels` are those of the server's namespace."""
    allowances = [one for policy in policies for one in policy.egress or ()]
    reaching = [one for one in allowances if _reaches(one, server, labels)]
    return tuple(protocol for protocol in PROTOCOLS if not any(_lets_out(one, protocol, server) for one in reaching))


def _reaches(allowed: Allowance, server: NameServer, labels: Mapping[str, str] | None) -> bool:
    if allowed.anyone or any(
        peer.selects_namespace(NAMESPACE, labels) and peer.pods.matches(LABELS) for peer in allowed.peers
    ):
        return True
    blocks = allowed.blocks or {}
    return any(contains(blocks.get(family_of(one), ()), of_address(one)) for one in server.addresses)


def _lets_out(allowed: Allowance, protocol: str, server: NameServer) -> bool:
    return allowed.any_port or any(_is_its(port, protocol, server) for port in allowed.ports)


def _is_its(port: Ports, protocol: str, server: NameServer) -> bool:
    if port.protocol != protocol:
        return False
    if port.name:
        return port.name == NAMED[protocol]
    return not port.numbers or any(contains(port.numbers, number) for number in (ASKED, server.port))
