"""A policy's allowances as rules, and which sets they need. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tiphys.proxy.policies.policy import Allowance, Direction, PeerSelector, Policy, Ports
from tiphys.proxy.policies.ruleset import FAMILIES, PolicyChain, Rule, peer_set, port_set


@dataclass(frozen=True, slots=True)
class Needs:
    """Sets that rules refer to."""

    selectors: frozenset[PeerSelector]
    named: frozenset[tuple[str, str]]
    """(name, protocol) of ports."""


def chain_of(policy: Policy, direction: Direction) -> PolicyChain:
    """Each way in which a connection may pass is a rule."""
    rules = (rule for one in policy.allowances(direction) or () for rule in _rules(one))
    return PolicyChain(direction, tuple(dict.fromkeys(rules)))


def needs_of(policy: Policy, direction: Direction) -> Needs:
    listed = policy.allowances(direction) or ()
    named = ((port.name, port.protocol) for one in listed for port in one.ports if port.name)
    return Needs(frozenset(peer for one in listed for peer in one.peers), frozenset(named))


def _rules(allowed: Allowance) -> Iterator[Rule]:
    for rule in _peers(allowed):
        if allowed.any_port:
            yield rule
        else:
            yield from _with_ports(rule, allowed.ports)


def _peers(allowed: Allowance) -> Iterator[Rule]:
    if allowed.anyone:
        yield Rule()
    for selector in allowed.peers:
        yield from (Rule(family, peers=peer_set(selector, family)) for family in FAMILIES)
    for family, blocks in (allowed.blocks or {}).items():
        yield Rule(family, blocks=blocks)


def _with_ports(rule: Rule, ports: Iterable[Ports]) -> Iterator[Rule]:
    for port in ports:
        if not port.name:
            yield replace(rule, protocol=port.protocol, ports=port.numbers)
            continue
        for family in (rule.family,) if rule.family else FAMILIES:
            named = port_set(port.name, port.protocol, family)
            yield replace(rule, family=family, protocol=port.protocol, named=named)
