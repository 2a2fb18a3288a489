"""What `tiphys doctor` says of the machine's firewall."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.base.nftables import PACKAGE, Nftables, absence
from tiphys.cluster.findings import Finding

NAME = "firewall"
_OPEN = "iptables -I FORWARD -i 'tiphys+' -j ACCEPT; iptables -I FORWARD -o 'tiphys+' -j ACCEPT (and ip6tables)"


_ADVICE = f"install {PACKAGE}: Services, network policies and host ports need it"


def warning() -> str:
    """What whoever starts a cluster should know; "" when the library is there."""
    missing = absence()
    return f"Services, network policies and host ports will not work: {missing}" if missing else ""


def check() -> Finding:
    """Whether there is nftables' library, and whether the host would drop what goes to and from pods."""
    if missing := absence():
        return Finding(NAME, False, missing, _ADVICE, needed=False)
    if os.geteuid():
        return Finding(NAME, True, "pods of a user do not pass the machine's", needed=False)
    try:
        with Nftables() as firewall:
            chains = firewall.list_json("list chains")
    except OSError as error:
        return Finding(NAME, False, str(error.strerror), _ADVICE, needed=False)
    if dropping := ", ".join(dropping_chains(chains)):
        return Finding(NAME, False, f"drops what it does not know: {dropping}", f"allow pods: {_OPEN}", needed=False)
    return Finding(NAME, True, "lets through what is forwarded", needed=False)


def dropping_chains(chains: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those (libnftables-json(5)) that drop what is forwarded unless a rule of theirs says otherwise."""
    found = [entry["chain"] for entry in chains if "chain" in entry]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in found
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in ("ip", "ip6", "inet")
    ]
