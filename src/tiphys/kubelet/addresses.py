"""Addresses of a node and its pods: which there are, and which of them come first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from tiphys.base.errors import Permanent


def node_addresses(text: str) -> tuple[str, ...]:
    """What --node-ip says: one address, or one of each IP family, the primary one first. Raises Permanent."""
    try:
        found = tuple(ip_address(each.strip()) for each in text.split(","))
    except ValueError as error:
        raise Permanent(f"--node-ip {text}: {error}") from None
    if len(found) > 2 or (len(found) == 2 and found[0].version == found[1].version):
        raise Permanent(f"--node-ip {text}: must contain either a single IP or a dual-stack pair of IPs")
    if len(found) == 2 and any(each.is_unspecified for each in found):
        raise Permanent(f"--node-ip {text}: dual-stack node IP cannot include '0.0.0.0' or '::'")
    return tuple(map(str, found))


def pod_addresses(addresses: Iterable[str], host: Sequence[str]) -> tuple[str, ...]:
    """A pod's addresses as its status has them: one of each family, that of the node's first address first."""
    known = {each.version: str(each) for each in reversed([ip_address(text) for text in addresses])}
    versions = (6, 4) if host and ":" in host[0] else (4, 6)
    return tuple(known[version] for version in versions if version in known)


def host_network_addresses(host: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Those of a pod in the node's network: the node's own. They stay as they were once told, but for a second family
    that the node has got since."""
    if not known:
        return tuple(host)
    if len(known) == 1 and len(host) == 2 and (":" in known[0]) is not (":" in host[1]):
        return known[0], host[1]
    return tuple(known)
