"""Addresses of nodes and pods of one and of two IP families."""

from __future__ import annotations

import pytest

from tiphys.base.errors import Permanent
from tiphys.kubelet.addresses import host_network_addresses, node_addresses, pod_addresses
from tiphys.kubelet.serve import own_addresses
from tiphys.kubelet.status_patch import status_patch


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1", ("10.0.0.1",)),
        ("fd00::1, 10.0.0.1", ("fd00::1", "10.0.0.1")),
        ("FD00:0:0::1", ("fd00::1",)),
        ("::", ("::",)),
    ],
)
def test_a_node_has_one_address_or_one_of_each_family(text: str, found: tuple[str, ...]) -> None:
    assert node_addresses(text) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.0.0.1,10.0.0.2", "must contain either a single IP or a dual-stack pair of IPs"),
        ("10.0.0.1,fd00::1,fd00::2", "must contain either a single IP or a dual-stack pair of IPs"),
        ("0.0.0.0,fd00::1", "cannot include '0.0.0.0' or '::'"),
        ("nonsense", "nonsense"),
        ("10.0.0.1,", "--node-ip 10.0.0.1,"),
    ],
)
def test_other_addresses_of_nodes_are_refused(text: str, problem: str) -> None:
    with pytest.raises(Permanent, match=problem):
        node_addresses(text)


def test_without_an_address_it_is_that_of_the_way_to_the_api_server() -> None:
    assert own_addresses("", "https://127.0.0.1:6443") == ("127.0.0.1",)
    assert own_addresses("", "https://[::1]:6443") == ("::1",)
    assert own_addresses("10.1.2.3,fd00::3", "https://127.0.0.1:6443") == ("10.1.2.3", "fd00::3")


def test_the_unspecified_address_asks_for_a_family() -> None:
    assert own_addresses("0.0.0.0", "https://127.0.0.1:6443") == ("127.0.0.1",)
    (found,) = own_addresses("::", "https://127.0.0.1:6443")
    assert ":" in found


@pytest.mark.parametrize(
    ("addresses", "host", "shown"),
    [
        (("10.0.0.2", "fd00::2"), ("192.0.2.1",), ("10.0.0.2", "fd00::2")),
        (("10.0.0.2", "fd00::2"), ("2001:db8::1", "192.0.2.1"), ("fd00::2", "10.0.0.2")),
        (("fd00::2",), ("192.0.2.1",), ("fd00::2",)),
        (("10.0.0.2", "10.0.0.3", "FD00::2", "fd00::3"), (), ("10.0.0.2", "fd00::2")),
        ((), ("192.0.2.1",), ()),
    ],
)
def test_a_pods_first_address_is_of_the_nodes_first_family(
    addresses: tuple[str, ...], host: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    assert pod_addresses(addresses, host) == shown


def test_a_pod_in_the_nodes_network_keeps_its_addresses_and_gets_a_second_family() -> None:
    both = ("192.0.2.1", "2001:db8::1")
    assert host_network_addresses(both, ()) == both
    assert host_network_addresses(both, ("192.0.2.1",)) == both
    assert host_network_addresses(both, ("192.0.2.9",)) == ("192.0.2.9", "2001:db8::1")
    assert host_network_addresses(("192.0.2.1",), ("192.0.2.9",)) == ("192.0.2.9",)
    assert host_network_addresses(both, ("2001:db8::9",)) == ("2001:db8::9",)


def test_a_nodes_addresses_are_replaced_for_two_of_them_may_be_of_one_type() -> None:
    one = {"type": "InternalIP", "address": "10.0.0.1"}
    other = {"type": "InternalIP", "address": "fd00::1"}
    assert status_patch({"addresses": [one]}, {"addresses": [one, other]}) == {
        "addresses": [one, other, {"$patch": "replace"}]
    }
    assert status_patch({"addresses": [one, other]}, {"addresses": [one, other]}) == {}
