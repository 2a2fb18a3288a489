"""What is in the kernel's table, read back so that a new process changes only what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiphys.base.nftables import Nftables
from tiphys.proxy.services import layout
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import Family
from tiphys.proxy.services.table import Actual

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


def read(nft: Nftables, config: ProxyConfig, family: Family) -> Actual | None:
    """The table; None if there is none or its layout is another: it has to be made anew. Raises NftablesError."""
    chains = {
        entry["chain"]["name"]
        for entry in nft.list_json(f"list chains {family.nft}")
        if entry.get("chain", {}).get("table") == config.table
    }
    if layout.marker(config, family) not in chains:
        return None
    actual = Actual(chains - layout.own_chains(config, family))
    for name, content in layout.contents(family).items():
        kind = content.partition(" ")[0]
        found = nft.list_json(f"list {kind} {family.nft} {config.table} {name}")[0][kind]
        actual.elements.update(((name, key), value) for key, value in _elements(found))
    names = {
        entry["set"]["name"]
        for entry in nft.list_json(f"list sets {family.nft}")
        if entry.get("set", {}).get("table") == config.table
    }
    actual.sets = names - layout.contents(family).keys()
    return actual


def _elements(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and value of each element of a listed map or set, written as `rules` writes them."""
    for element in found.get("elem") or ():
        if "map" in found:
            key, verdict = element
            yield _key(key), _verdict(verdict)
        else:
            yield _key(element), ""


def _key(key: Any) -> str:
    """E.g. {"concat": ["10.96.0.1", 6, 80]} -> 10.96.0.1 . tcp . 80"""
    if isinstance(key, dict):
        if "elem" in key:
            return _key(key["elem"]["val"])
        if "prefix" in key:
            return f"{key['prefix']['addr']}/{key['prefix']['len']}"
        key = key["concat"]
    parts = key if isinstance(key, list) else [key]
    if len(parts) > 1:
        parts[-2] = _PROTOCOLS.get(parts[-2], parts[-2])
    return " . ".join(map(str, parts))


def _verdict(verdict: dict[str, Any]) -> str:
    (word, more), *_ = verdict.items()
    return f"{word} {more['target']}" if more else str(word)
