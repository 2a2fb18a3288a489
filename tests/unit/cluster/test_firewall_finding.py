"""The doctor on the machine's firewall."""

from __future__ import annotations

import errno

import pytest

from tiphys.base.nftables import NftablesError
from tiphys.cluster import firewall


def chain(**fields: str) -> dict[str, dict[str, str]]:
    return {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", **fields}}


def test_a_chain_that_drops_what_is_forwarded_is_named() -> None:
    chains = [
        chain(policy="drop"),
        chain(policy="drop", hook="input"),
        chain(policy="accept", family="inet"),
        chain(policy="drop", family="bridge"),
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
    ]
    assert firewall.dropping_chains(chains) == ["ip filter FORWARD"]


def test_a_missing_library_is_told_with_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NftablesError(errno.ENOPKG, "libnftables.so.1 cannot be loaded")

    monkeypatch.setattr(firewall, "Nftables", missing)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = firewall.check()
    assert (found.ok, found.needed) == (False, False)
    assert "host ports need it" in found.advice


def test_who_starts_a_cluster_without_the_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert firewall.warning() == ""
    monkeypatch.setattr(
        firewall, "absence", lambda: "libnftables.so.1 cannot be loaded: install the package libnftables1"
    )
    assert firewall.warning().startswith("Services, network policies and host ports will not work: libnftables.so.1")
    assert "install libnftables1" in firewall.check().advice
