"""The chains of policies and of groups of pods that the same policies are about, and who is in which group. Pure.

Chains never change: a policy that does gets a new chain, so do its groups, and then their members are led there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.proxy.policies import render
from tiphys.proxy.policies.peers import Peers
from tiphys.proxy.policies.policy import DIRECTIONS, Direction, Policy
from tiphys.proxy.policies.ranges import family_of
from tiphys.proxy.policies.rules import Needs, chain_of, needs_of
from tiphys.proxy.policies.ruleset import OWN, Chain, GroupChain, Ruleset, group_chain, map_name, policy_chain

Keys = tuple[str, ...]
"""Of policies, sorted."""


@dataclass(slots=True)
class _Made:
    """A policy's chain."""

    name: str
    needs: Needs
    groups: set[Keys] = field(default_factory=set)


@dataclass(slots=True)
class _Group:
    name: str
    members: set[str] = field(default_factory=set)


class Groups:
    """Fills a ruleset's chains and maps, noting names in `touched`; has `peers` keep the sets that chains need."""

    def __init__(self, ruleset: Ruleset, touched: set[str], peers: Peers, policies: Mapping[str, Policy]) -> None:
        self._ruleset, self._touched, self._peers, self._policies = ruleset, touched, peers, policies
        self._made: dict[tuple[Direction, str], _Made] = {}
        self._groups: dict[tuple[Direction, Keys], _Group] = {}
        self._placed: dict[tuple[str, Direction], Keys] = {}

    def place(self, address: str, direction: Direction, policies: Keys | None) -> None:
        """The address of a pod of this node is isolated by `policies`, with None by none."""
        before = self._placed.get((address, direction))
        if before == policies:
            return
        if policies is None:
            del self._placed[address, direction]
        else:
            self._placed[address, direction] = policies
            group = self._groups.get((direction, policies)) or self._make_group(direction, policies)
            group.members.add(address)
        self._lead(address, direction, "" if policies is None else group.name)
        if before is not None:
            self._leave(address, direction, before)
        self._note_own(address)

    def refresh(self, key: str) -> None:
        """A policy that exists may have changed; who is in its groups is for `place`."""
        for direction in DIRECTIONS:
            old = self._made.get((direction, key))
            if old is None:
                continue
            new = self._make_policy(direction, key)
            new.groups = old.groups
            self._peers.drop(old.needs)
            if new.name != old.name:
                self._set_chain(old.name, None)
                for policies in tuple(new.groups):
                    self._rename(direction, policies)

    def _lead(self, address: str, direction: Direction, group: str) -> None:
        name = map_name(direction, family_of(address))
        if group:
            self._ruleset.maps[name][address] = group
        else:
            del self._ruleset.maps[name][address]
        self._touched.add(name)

    def _note_own(self, address: str) -> None:
        name = OWN[family_of(address)]
        isolated = any((address, direction) in self._placed for direction in DIRECTIONS)
        own = self._ruleset.sets[name]
        (own.add if isolated else own.discard)(f"{address} . {address}")
        self._touched.add(name)

    # --- groups

    def _make_group(self, direction: Direction, policies: Keys) -> _Group:
        for key in policies:
            made = self._made.get((direction, key)) or self._make_policy(direction, key)
            made.groups.add(policies)
        group = self._groups[direction, policies] = _Group(self._group_chain(direction, policies))
        return group

    def _group_chain(self, direction: Direction, policies: Keys) -> str:
        chain = GroupChain(tuple(self._made[direction, key].name for key in policies))
        name = group_chain(direction, _contents(chain))
        self._set_chain(name, chain)
        return name

    def _rename(self, direction: Direction, policies: Keys) -> None:
        """One of its policies has another chain."""
        group = self._groups[direction, policies]
        self._set_chain(group.name, None)
        group.name = self._group_chain(direction, policies)
        for address in group.members:
            self._lead(address, direction, group.name)

    def _leave(self, address: str, direction: Direction, policies: Keys) -> None:
        group = self._groups[direction, policies]
        group.members.discard(address)
        if group.members:
            return
        del self._groups[direction, policies]
        self._set_chain(group.name, None)
        for key in policies:
            made = self._made[direction, key]
            made.groups.discard(policies)
            if not made.groups:
                del self._made[direction, key]
                self._set_chain(made.name, None)
                self._peers.drop(made.needs)

    # --- policies

    def _make_policy(self, direction: Direction, key: str) -> _Made:
        policy = self._policies[key]
        chain = chain_of(policy, direction)
        made = _Made(policy_chain(policy, direction, _contents(chain)), needs_of(policy, direction))
        self._peers.use(made.needs)
        self._set_chain(made.name, chain)
        self._made[direction, key] = made
        return made

    def _set_chain(self, name: str, chain: Chain | None) -> None:
        if chain is None:
            del self._ruleset.chains[name]
        else:
            self._ruleset.chains[name] = chain
        self._touched.add(name)


def _contents(chain: Chain) -> str:
    """What its name stands for: the text, so that another version's rules never pass for this one's."""
    return "\n".join(render.contents("", "", chain))
