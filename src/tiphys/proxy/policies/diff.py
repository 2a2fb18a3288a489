"""From what is in the kernel to what is wanted: transactions for nft(8). Pure.

There are up to three, so that at no moment, between any two packets or within the judging of one, less is forbidden
than before and after: first what is new is made, where nobody looks yet; then what is in use changes; then what
nobody looks at any more goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tiphys.proxy.policies import render
from tiphys.proxy.policies.ruleset import MAPS, Chain, Ruleset

T = TypeVar("T")
Transaction = list[str]
"""Lines."""

_CHUNK = 2000
"""Elements in a line."""


@dataclass(slots=True)
class _Work:
    """Chains name other chains and sets: those are made first, and go last."""

    make: Transaction = field(default_factory=list)
    fill: Transaction = field(default_factory=list)
    change: Transaction = field(default_factory=list)
    empty: Transaction = field(default_factory=list)
    drop: Transaction = field(default_factory=list)


def changes(table: str, applied: Ruleset, wanted: Ruleset, touched: Iterable[str]) -> list[Transaction]:
    """What makes `wanted` of `applied` where only `touched` differ; the table is there."""
    work = _Work()
    for name in sorted(touched):
        if name in MAPS:
            _map(table, name, applied.maps[name], wanted.maps[name], work)
        elif name in applied.sets or name in wanted.sets:
            _set(table, name, applied.sets.get(name), wanted.sets.get(name), work)
        else:
            _chain(table, name, applied.chains.get(name), wanted.chains.get(name), work)
    return [one for one in ([*work.make, *work.fill], work.change, [*work.empty, *work.drop]) if one]


def _map(table: str, name: str, old: Mapping[str, str], new: Mapping[str, str], work: _Work) -> None:
    gone = [address for address, chain in old.items() if new.get(address) != chain]
    come = [f"{address} : goto {chain}" for address, chain in new.items() if old.get(address) != chain]
    if gone:
        work.change.append(render.without_elements(table, name, gone))
    if come:
        work.change.append(render.elements(table, name, come))


def _set(table: str, name: str, old: set[str] | None, new: set[str] | None, work: _Work) -> None:
    if new is None:
        if old is not None:
            work.drop.append(f"delete set inet {table} {name}")
    elif old is None:
        work.make += [render.declaration(table, name), *_elements(table, name, new)]
    else:
        if gone := old - new:
            work.change.append(render.without_elements(table, name, gone))
        work.change += _elements(table, name, new - old)


def _elements(table: str, name: str, elements: set[str]) -> list[str]:
    listed = sorted(elements)
    return [render.elements(table, name, listed[at : at + _CHUNK]) for at in range(0, len(listed), _CHUNK)]


def _chain(table: str, name: str, old: Chain | None, new: Chain | None, work: _Work) -> None:
    """Its name says what is in it, so that it is there or not."""
    if new is None:
        if old is not None:
            work.empty.append(f"flush chain inet {table} {name}")
            work.drop.append(f"delete chain inet {table} {name}")
    elif old is None:
        work.make.append(f"add chain inet {table} {name}")
        work.fill += render.contents(table, name, new)


def foundation(table: str) -> Transaction:
    """The table with its hook and what is always in it; harmless where that is there, from whichever version."""
    lines = [*render.base(table), *(f"flush chain inet {table} {name}" for name in render.BASE_CHAINS)]
    return [*lines, *render.base_rules(table)]


def advance(applied: Ruleset, wanted: Ruleset, touched: Iterable[str]) -> None:
    """Make `touched` of `applied` what they are in `wanted`, which goes on changing."""
    for name in touched:
        if name in MAPS:
            applied.maps[name] = dict(wanted.maps[name])
        _copy(applied.sets, name, set(wanted.sets[name]) if name in wanted.sets else None)
        _copy(applied.chains, name, wanted.chains.get(name))


def _copy(into: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        into.pop(name, None)
    else:
        into[name] = value
