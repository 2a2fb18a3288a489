"""One table: what should be in it, what is in it, and the commands that make the one of the other.

`Desired` is kept by owner (a Service), so that a change costs as much as its owner is large. Nothing is done here: the
caller sends the commands, and notes in `Actual` that they took effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from tiphys.proxy.services.rules import ElementKey, Rules

V = TypeVar("V")

Claim = tuple[tuple[str, str], str, str]
"""Rank, owner and value: the least has the key."""


@dataclass(slots=True)
class Actual:
    """What is in the kernel: chains and sets of Services, the elements of the layout's maps and sets."""

    chains: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    elements: dict[ElementKey, str] = field(default_factory=dict)

    def note(self, change: Change) -> None:
        """The change took effect."""
        self.chains |= change.chains.keys()
        self.sets |= change.sets.keys()
        for key in change.removed:
            del self.elements[key]
        self.elements.update(change.added)


@dataclass(slots=True)
class Change:
    """What differs: chains and sets to make, elements to take out and to put in, in this order."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    removed: list[ElementKey] = field(default_factory=list)
    added: dict[ElementKey, str] = field(default_factory=dict)

    def commands(self, table: str) -> list[str]:
        """The nft commands; `table` is e.g. "ip tiphys-services"."""
        lines = [f"add set {table} {name} {held}" for name, held in self.sets.items()]
        lines += [f"add chain {table} {name}" for name in self.chains]
        for name, rules in self.chains.items():
            lines += [f"add rule {table} {name} {rule}" for rule in rules]
        for verb, keys in (("delete", self.removed), ("add", self.added)):
            grouped: defaultdict[str, list[str]] = defaultdict(list)
            for name, key in keys:
                value = self.added[name, key] if verb == "add" else ""
                grouped[name].append(f"{key} : {value}" if value else key)
            lines += [f"{verb} element {table} {name} {{ {', '.join(each)} }}" for name, each in grouped.items()]
        return lines


@dataclass(slots=True)
class Touched:
    """What may differ from what is there."""

    chains: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    elements: set[ElementKey] = field(default_factory=set)

    def add(self, other: Touched) -> None:
        self.chains |= other.chains
        self.sets |= other.sets
        self.elements |= other.elements


class Desired:
    """What should be in the table."""

    def __init__(self) -> None:
        self._rules: dict[str, Rules] = {}
        self._claims: dict[ElementKey, tuple[Claim, ...]] = {}
        self.chains: dict[str, tuple[str, ...]] = {}
        self.sets: dict[str, str] = {}

    def put(self, owner: str, rules: Rules) -> Touched:
        """What the owner wants from now on; empty rules take all away."""
        old = self._rules.pop(owner, None) or Rules()
        if rules.elements or rules.chains or rules.sets:
            self._rules[owner] = rules
        touched = Touched(_replace(self.chains, old.chains, rules.chains), _replace(self.sets, old.sets, rules.sets))
        for key in {*old.elements, *rules.elements}:
            if old.rank != rules.rank or old.elements.get(key) != rules.elements.get(key):
                self._claim(key, owner, rules)
                touched.elements.add(key)
        return touched

    def _claim(self, key: ElementKey, owner: str, rules: Rules) -> None:
        claims = tuple(claim for claim in self._claims.pop(key, ()) if claim[1] != owner)
        if key in rules.elements:
            claims = tuple(sorted((*claims, (rules.rank, owner, rules.elements[key]))))
        if claims:
            self._claims[key] = claims

    def everything(self, actual: Actual) -> Touched:
        """All that is wanted or there."""
        return Touched(set(self.chains), set(self.sets), {*self._claims, *actual.elements})

    def owners(self) -> list[str]:
        """Who wants anything, by name."""
        return sorted(self._rules)

    def of(self, owners: Iterable[str]) -> Touched:
        """All that these owners want."""
        touched = Touched()
        for rules in (self._rules[owner] for owner in owners):
            touched.add(Touched({*rules.chains}, {*rules.sets}, {*rules.elements}))
        return touched

    def leftover(self, actual: Actual) -> Touched:
        """The elements that nobody wants."""
        return Touched(elements={key for key in actual.elements if key not in self._claims})

    def difference(self, touched: Touched, actual: Actual) -> Change:
        """What has to change, among what was touched."""
        change = Change(
            _missing(touched.chains, self.chains, actual.chains), _missing(touched.sets, self.sets, actual.sets)
        )
        for key in touched.elements:
            claims = self._claims.get(key)
            wanted, found = claims[0][2] if claims else None, actual.elements.get(key)
            if wanted == found:
                continue
            if found is not None:
                change.removed.append(key)
            if wanted is not None:
                change.added[key] = wanted
        return change

    def stale(self, actual: Actual) -> Actual:
        """Chains and sets that nobody wants any more; nothing leads to them after the last change."""
        return Actual(actual.chains - self.chains.keys(), actual.sets - self.sets.keys())

    def is_tidy(self, actual: Actual) -> bool:
        """Whether nothing is stale."""
        return actual.chains <= self.chains.keys() and actual.sets <= self.sets.keys()


def sweep_commands(stale: Actual, table: str) -> list[str]:
    """Take stale chains and sets away. They refer to each other, so they are emptied first."""
    chains, sets = sorted(stale.chains), sorted(stale.sets)
    lines = [f"flush chain {table} {name}" for name in chains]
    lines += [f"delete chain {table} {name}" for name in chains]
    return lines + [f"delete set {table} {name}" for name in sets]


def _replace(all: dict[str, V], old: dict[str, V], new: dict[str, V]) -> set[str]:
    """Put `new` in the place of `old`; returns the names that came or went."""
    changed = old.keys() ^ new.keys()
    for name in old:
        if name not in new:
            all.pop(name, None)
    all.update(new)
    return changed


def _missing(names: Iterable[str], wanted: dict[str, V], there: set[str]) -> dict[str, V]:
    return {name: wanted[name] for name in names if name in wanted and name not in there}
