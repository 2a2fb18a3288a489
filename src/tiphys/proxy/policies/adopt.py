"""What is in the kernel already, read back as a ruleset: what `nft -j list table` says. Pure.

A chain's name tells what is in it, so the rules of chains need not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.proxy.policies.render import BASE_CHAINS, mark
from tiphys.proxy.policies.ruleset import MAPS, GroupChain, Ruleset

FOUND = GroupChain(("found",))
"""In the place of the contents of a chain that was found."""


def adopted(entries: Iterable[Mapping[str, Any]]) -> Ruleset:
    """From the entries of libnftables-json(5) about the table."""
    found = Ruleset()
    for entry in entries:
        for kind, value in entry.items():
            if kind == "chain" and value["name"] not in BASE_CHAINS:
                found.chains[value["name"]] = FOUND
            elif kind == "set":
                found.sets[value["name"]] = {_element(one) for one in value.get("elem") or ()}
            elif kind == "map" and value["name"] in MAPS:
                found.maps[value["name"]] = {str(key): _target(verdict) for key, verdict in value.get("elem") or ()}
    return found


def is_founded(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Whether hook and base chains are those of this version."""
    return any(entry.get("rule", {}).get("comment") == mark() for entry in entries)


def _element(value: Any) -> str:
    """An address, or several values that belong together."""
    if isinstance(value, Mapping) and "elem" in value:
        value = value["elem"]["val"]
    if isinstance(value, Mapping):
        return " . ".join(str(part) for part in value["concat"])
    return str(value)


def _target(verdict: Mapping[str, Any]) -> str:
    return str((verdict.get("goto") or verdict.get("jump") or {}).get("target") or "")
