"""Which addresses the API server connects to for others: proxies and webhooks of Services."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def proxyable(address: str) -> bool:
    """Whether an address may be a pod's: not this machine's own (loopback), nor its link's, nor many."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    bad = found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified
    return not bad and found != IPv4Address("255.255.255.255")
