from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.controllers.cidr_ranges import CidrRange, cluster_ranges


def test_parts_are_given_out_in_turn_until_none_is_left() -> None:
    parts = CidrRange(ip_network("10.0.0.0/22"), 24)
    assert [str(parts.take()) for _ in range(2)] == ["10.0.0.0/24", "10.0.1.0/24"]
    parts.release(ip_network("10.0.0.0/24"))
    assert [str(parts.take()) for _ in range(3)] == ["10.0.2.0/24", "10.0.3.0/24", "10.0.0.0/24"]
    assert parts.take() is None
    parts.release(ip_network("10.0.1.0/24"))
    assert str(parts.take()) == "10.0.1.0/24"


def test_what_is_taken_by_others_is_skipped_however_large_it_is() -> None:
    parts = CidrRange(ip_network("10.0.0.0/22"), 24)
    assert parts.occupy(ip_network("10.0.0.128/25"))
    assert parts.occupy(ip_network("10.0.2.0/23"))
    assert not parts.occupy(ip_network("10.9.0.0/24"))
    assert not parts.occupy(ip_network("fd00::/64"))
    assert str(parts.take()) == "10.0.1.0/24"
    assert parts.take() is None


def test_ranges_of_services_are_left_out() -> None:
    settings = {"cluster-cidr": "10.0.0.0/22,fd00::/63", "service-cluster-ip-range": "10.0.0.0/23"}
    four, six = cluster_ranges(settings)
    assert str(four.take()) == "10.0.2.0/24"
    assert [str(six.take()) for _ in range(3)] == ["fd00::/64", "fd00:0:0:1::/64", "None"]


def test_sizes_are_those_of_the_family() -> None:
    four, six = cluster_ranges(
        {"cluster-cidr": "10.0.0.0/8,fd00::/48", "node-cidr-mask-size-ipv4": 26, "node-cidr-mask-size-ipv6": 56}
    )
    assert [str(each) for each in (four.take(), four.take())] == ["10.0.0.0/26", "10.0.0.64/26"]
    assert [str(each) for each in (six.take(), six.take())] == ["fd00::/56", "fd00:0:0:100::/56"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"cluster-cidr": "10.0.0.0/16,10.1.0.0/16"}, "not configured as dual stack"),
        ({"cluster-cidr": "10.0.0.0/16,fd00::/48,fd01::/48"}, "more than max allowed of 2"),
        ({"cluster-cidr": "10.0.0.0/16,fd00::/48", "node-cidr-mask-size": 24}, "not allowed with dual-stack"),
        ({"cluster-cidr": "10.0.0.0/16", "node-cidr-mask-size-ipv6": 64}, "single-stack IPv4"),
        ({"cluster-cidr": "fd00::/48", "node-cidr-mask-size-ipv4": 24}, "single-stack IPv6"),
        ({"cluster-cidr": "10.0.0.0/16", "node-cidr-mask-size": 24, "node-cidr-mask-size-ipv4": 24}, "please unset"),
        ({"cluster-cidr": "10.0.0.0/16", "node-cidr-mask-size": 8}, "less than or equal"),
        ({"cluster-cidr": "fd00::/32"}, "too big"),
        ({"cluster-cidr": "nonsense"}, "nonsense"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(Permanent, match=problem):
        cluster_ranges(settings)
