"""What is wanted in the kernel, as data: chains, sets and maps of the table `policies`.

    forward               the hook: the client's address leads to its egress group, the server's to its ingress group
    egress-HASH, ...      a group: the policies of pods that share them; what none of them lets pass is dropped
    of/NS/NAME/egress-HASH   what one policy lets out; with ingress-HASH: in

A chain's name tells its contents (HASH), so a chain that is there is right and never changes. Client and server are
those of the connection, not of the packet: replies and later packets are judged like the first.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field

from tiphys.proxy.policies.policy import DIRECTIONS, Direction, PeerSelector, Policy
from tiphys.proxy.policies.ranges import Ranges

FAMILIES = (4, 6)
_PLAIN = re.compile(r"[a-z0-9][a-z0-9./-]{0,200}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Lets a connection pass when all of it is so; what is left empty is so for all."""

    family: int = 0
    """4 or 6; needed by all that names addresses."""
    peers: str = ""
    """The set that has the peer's address."""
    blocks: Ranges = ()
    """Where the peer's address is, as numbers."""
    protocol: str = ""
    ports: Ranges = ()
    """The server's."""
    named: str = ""
    """The set that has the server's address and port."""


@dataclass(frozen=True, slots=True)
class PolicyChain:
    direction: Direction
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class GroupChain:
    policies: tuple[str, ...]
    """Chains of policies; what none of them lets pass is dropped."""


Chain = PolicyChain | GroupChain


def map_name(direction: Direction, family: int) -> str:
    return f"{direction}{family}"


MAPS = tuple(map_name(direction, family) for direction in DIRECTIONS for family in FAMILIES)
SILENT = {family: f"silent{family}" for family in FAMILIES}
"""The sets of (address . protocol) of pods that must not ask the node's name server."""
OWN = {family: f"own{family}" for family in FAMILIES}
"""The sets of (address . address) of isolated pods: a pod may always reach itself."""
FIXED_SETS = (*OWN.values(), *SILENT.values())


@dataclass(slots=True)
class Ruleset:
    """All of it; empty when no pod of the node is isolated."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in FIXED_SETS})
    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in MAPS})
    """Address of a pod of this node -> its group."""

    @property
    def empty(self) -> bool:
        return not any(self.maps.values())


def policy_chain(policy: Policy, direction: Direction, contents: str) -> str:
    """Its first letter is one, as nft(8) wants it; namespaces may begin with a digit."""
    return f"of/{_word(policy.key)}/{direction}-{digest(contents)}"


def group_chain(direction: Direction, contents: str) -> str:
    return f"{direction}-{digest(contents)}"


@functools.lru_cache(maxsize=8192)
def peer_set(selector: PeerSelector, family: int) -> str:
    return f"peers{family}-{digest(selector.key)}"


def port_set(name: str, protocol: str, family: int) -> str:
    return f"port{family}-{protocol}-{_word(name)}"


def _word(text: str) -> str:
    """As it is, if nft(8) can read it as part of a name."""
    return text if _PLAIN.fullmatch(text) else digest(text)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
