"""Ranges of numbers, both ends included: ports, and addresses as numbers. Sorted, apart from each other, immutable."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

Range = tuple[int, int]
Ranges = tuple[Range, ...]

TOP = {4: (1 << 32) - 1, 6: (1 << 128) - 1}
"""The last address of each family as a number."""


def merge(ranges: Iterable[Range]) -> Ranges:
    """What at least one of them has; empty ones (first above last) count for nothing."""
    merged: list[Range] = []
    for first, last in sorted(one for one in ranges if one[0] <= one[1]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def without(ranges: Ranges, taken: Iterable[Range]) -> Ranges:
    """What `ranges` have and `taken` have not."""
    left = list(ranges)
    for low, high in merge(taken):
        rest: list[Range] = []
        for first, last in left:
            rest += ((first, min(last, low - 1)), (max(first, high + 1), last))
        left = [one for one in rest if one[0] <= one[1]]
    return tuple(left)


def contains(ranges: Ranges, number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)


def of_block(cidr: str) -> tuple[int, Range]:
    """(family, range of addresses) of e.g. 10.0.0.0/8. Raises ValueError."""
    network = ip_network(cidr, strict=False)
    return network.version, (int(network.network_address), int(network.broadcast_address))


def family_of(address: str) -> int:
    return 6 if ":" in address else 4


def of_address(address: str) -> int:
    return int(ip_address(address))
