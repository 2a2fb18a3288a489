"""Whose traffic to cluster IPs gets the node's address as source."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.proxy.services import layout
from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import IPV4


@pytest.mark.parametrize(
    ("config", "whose"),
    [
        ({}, " ip saddr != @local-pods fib saddr type != local"),
        ({"masquerade_own": True}, " ip saddr != @local-pods"),
        ({"masquerade_all": True}, ""),
        ({"masquerade_all": True, "masquerade_own": True}, ""),
    ],
)
def test_who_is_masqueraded(config: dict[str, Any], whose: str) -> None:
    rule = f"ip daddr @cluster-ips{whose} meta mark set meta mark or 0x4000"
    assert any(line.endswith(rule) for line in layout.commands(ProxyConfig(node="n1", **config), IPV4))


def test_the_host_masquerades_nothing() -> None:
    assert not any("mark set" in line for line in layout.commands(ProxyConfig(masquerade_own=True), IPV4))
