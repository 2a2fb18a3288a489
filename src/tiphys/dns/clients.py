"""Who is answered: everybody but strangers. A node may have a public address, and a name server that answers all of the
internet is soon used to flood others."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

_REMEMBERED = 4096


class Clients:
    """Addresses that are not of the public internet, and those of `near` (networks such as 203.0.113.0/24)."""

    def __init__(self, near: Iterable[str] = ()) -> None:
        self._near = [ip_network(each, strict=False) for each in near]
        self._known: dict[str, bool] = {}

    def __contains__(self, address: object) -> bool:
        known = self._known.get(str(address))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[str(address)] = self._is_client(str(address))
        return known

    def _is_client(self, text: str) -> bool:
        address = ip_address(text.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return not address.is_global or any(address in network for network in self._near)
