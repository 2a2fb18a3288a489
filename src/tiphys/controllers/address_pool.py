"""The addresses that load balancers may have: ranges, and which of them is next. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tiphys.base.errors import Permanent

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends belong to it."""

    first: Address
    last: Address

    @property
    def family(self) -> str:
        return f"IPv{self.first.version}"

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, IPv4Address | IPv6Address) or address.version != self.first.version:
            return False
        return int(self.first) <= int(address) <= int(self.last)

    def __iter__(self) -> Iterator[str]:
        kind = type(self.first)
        return (str(kind(number)) for number in range(int(self.first), int(self.last) + 1))

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Ranges in the order in which they are used up."""

    ranges: tuple[Range, ...] = ()

    @staticmethod
    def parse(text: str) -> AddressPool:
        """CIDRs, single addresses and ranges FIRST-LAST, by commas. Raises Permanent for anything else."""
        return AddressPool(tuple(_range(each.strip()) for each in text.split(",") if each.strip()))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __str__(self) -> str:
        return ",".join(map(str, self.ranges))

    def __contains__(self, text: object) -> bool:
        try:
            address = ip_address(str(text))
        except ValueError:
            return False
        return any(address in each for each in self.ranges)

    def families(self) -> Sequence[str]:
        return tuple(dict.fromkeys(each.family for each in self.ranges))

    def first_free(self, family: str, taken: Container[str]) -> str | None:
        """The first address of that family ("IPv4", "IPv6") that is not taken."""
        own = (each for each in self.ranges if each.family == family)
        return next((address for each in own for address in each if address not in taken), None)


def _range(text: str) -> Range:
    try:
        if "-" in text:
            first, last = (ip_address(each.strip()) for each in text.split("-", 1))
            if first.version != last.version or int(first) > int(last):
                raise ValueError("the first address must not be after the last one")
            return Range(first, last)
        network = ip_network(text)
    except ValueError as error:
        raise Permanent(f"load balancer addresses: {text}: {error}") from error
    low, high = network.network_address, network.broadcast_address
    if network.version == 4 and network.prefixlen < 31:
        return Range(low + 1, high - 1)
    return Range(low, high)
