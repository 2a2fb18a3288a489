from __future__ import annotations

import pytest

from tiphys.base.errors import Permanent
from tiphys.controllers.address_pool import AddressPool


def test_a_network_offers_its_hosts_and_a_range_both_ends() -> None:
    pool = AddressPool.parse("10.0.0.0/30, 10.0.1.5-10.0.1.6,10.0.2.9")
    taken: set[str] = set()
    while (found := pool.first_free("IPv4", taken)) is not None:
        taken.add(found)
    assert taken == {"10.0.0.1", "10.0.0.2", "10.0.1.5", "10.0.1.6", "10.0.2.9"}
    assert "10.0.1.5" in pool
    assert "10.0.1.7" not in pool
    assert "10.0.0.0" not in pool
    assert "nonsense" not in pool


def test_families_are_kept_apart() -> None:
    pool = AddressPool.parse("fd00::10-fd00::11,10.0.0.7/32")
    assert pool.families() == ("IPv6", "IPv4")
    assert pool.first_free("IPv6", ()) == "fd00::10"
    assert pool.first_free("IPv4", ()) == "10.0.0.7"
    assert str(pool) == "fd00::10-fd00::11,10.0.0.7"


@pytest.mark.parametrize("text", ["10.0.0.1/24", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "x", "10.0.0.1-"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(Permanent, match="load balancer addresses"):
        AddressPool.parse(text)
    assert not AddressPool.parse("")
