"""The rules of the table `policies` as nft(8) reads them. Pure text.

Rules look at the connection (`ct original`, `ct reply`), not at the packet: the client's own address and the server's
own address and port, whatever Services made of them, in both directions. So every packet of a connection is judged
by the policies of now.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from tiphys.proxy.policies.policy import EGRESS, INGRESS, Direction
from tiphys.proxy.policies.ranges import Ranges
from tiphys.proxy.policies.ruleset import (
    FAMILIES,
    FIXED_SETS,
    MAPS,
    OWN,
    SILENT,
    Chain,
    GroupChain,
    PolicyChain,
    Rule,
    digest,
    map_name,
)

_WORD = {4: "ip", 6: "ip6"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}
_PASS: dict[Direction, str] = {EGRESS: "goto ingress", INGRESS: "accept"}
"""What is let out must be let in, too."""
NAME_SERVER_PORT = 10053
"""Where a node's own name server listens."""
BASE_CHAINS = ("forward", "input", "ingress")


def base(table: str) -> Iterator[str]:
    """The table with its hook and what is always in it, but no rules; harmless where that is there."""
    yield f"add table inet {table}"
    yield f"add chain inet {table} forward {{ type filter hook forward priority filter; policy accept; }}"
    yield f"add chain inet {table} input {{ type filter hook input priority filter; policy accept; }}"
    yield f"add chain inet {table} ingress"
    for name in (*FIXED_SETS, *MAPS):
        yield declaration(table, name)


def base_rules(table: str) -> Iterator[str]:
    """Those of the hook; the last has a comment that tells which they are (`mark`)."""
    yield from _base_rules(table)
    yield rule(table, "ingress", f'accept comment "{mark()}"')


@functools.cache
def mark() -> str:
    """What the foundation of this version is known by."""
    return digest("\n".join((*base("t"), *_base_rules("t"))))


def _base_rules(table: str) -> Iterator[str]:
    """Connections without a place in conntrack match no `ct original`: those of isolated pods meet their group by the
    packet's addresses, where only rules for everybody let them pass."""
    errors = "ct state related meta l4proto { icmp, ipv6-icmp } accept"
    yield rule(table, "forward", errors)
    for family in FAMILIES:
        word = _WORD[family]
        yield rule(table, "forward", f"ct original {word} saddr . ct reply {word} saddr @{OWN[family]} accept")
        asks = f"meta l4proto {{ tcp, udp }} th dport {NAME_SERVER_PORT}"
        yield rule(table, "input", f"{asks} {word} saddr . meta l4proto @{SILENT[family]} drop")
    yield from _dispatch(table, "forward", EGRESS, "ct original", "saddr")
    yield rule(table, "forward", "goto ingress")
    yield from _dispatch(table, "ingress", INGRESS, "ct reply", "daddr")


def _dispatch(table: str, chain: str, direction: Direction, connection: str, packet: str) -> Iterator[str]:
    for family in FAMILIES:
        lookup = f"vmap @{map_name(direction, family)}"
        yield rule(table, chain, f"{connection} {_WORD[family]} saddr {lookup}")
        yield rule(table, chain, f"ct state invalid,untracked {_WORD[family]} {packet} {lookup}")


def rule(table: str, chain: str, text: str) -> str:
    return f"add rule inet {table} {chain} {text}"


def declaration(table: str, name: str) -> str:
    """Of a set or map, by its name."""
    family = 6 if name.partition("-")[0].endswith("6") else 4
    if name in MAPS:
        return f"add map inet {table} {name} {{ type {_TYPE[family]} : verdict; }}"
    seconds = {"own": f" . {_TYPE[family]}", "silent": " . inet_proto", "port": " . inet_service"}
    second = seconds.get(name.partition("-")[0].rstrip("46"), "")
    return f"add set inet {table} {name} {{ type {_TYPE[family]}{second}; }}"


def elements(table: str, name: str, added: Collection[str]) -> str:
    return f"add element inet {table} {name} {{ {', '.join(sorted(added))} }}"


def without_elements(table: str, name: str, removed: Collection[str]) -> str:
    return f"delete element inet {table} {name} {{ {', '.join(sorted(removed))} }}"


def contents(table: str, name: str, chain: Chain) -> Iterator[str]:
    """The rules of a policy's or a group's chain."""
    if isinstance(chain, GroupChain):
        for policy in chain.policies:
            yield rule(table, name, f"jump {policy}")
        yield rule(table, name, "drop")
    else:
        for one in chain.rules:
            yield rule(table, name, _rule(one, chain))


def _rule(one: Rule, chain: PolicyChain) -> str:
    peer = "ct original" if chain.direction == INGRESS else "ct reply"
    word = _WORD.get(one.family, "")
    parts = []
    if one.protocol:
        parts.append(f"meta l4proto {one.protocol}")
    if one.peers:
        parts.append(f"{peer} {word} saddr @{one.peers}")
    if one.blocks:
        parts.append(f"{peer} {word} saddr {_addresses(one.blocks, one.family)}")
    if one.named:
        parts.append(f"ct reply {word} saddr . ct reply proto-src @{one.named}")
    if one.ports:
        parts.append(f"ct reply proto-src {_set(one.ports)}")
    return " ".join((*parts, _PASS[chain.direction]))


def _set(ranges: Ranges) -> str:
    listed = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return listed[0] if len(listed) == 1 else f"{{ {', '.join(listed)} }}"


def _addresses(ranges: Ranges, family: int) -> str:
    def text(number: int) -> str:
        return str(ip_address(number.to_bytes(4 if family == 4 else 16, "big")))

    listed = [text(first) if first == last else f"{text(first)}-{text(last)}" for first, last in ranges]
    return f"{{ {', '.join(listed)} }}"
