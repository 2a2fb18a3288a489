"""Which addresses sandboxes get, and that files of earlier versions count."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from tiphys.runtime.ipam import AddressPool, pools
from tiphys.runtime.types import RuntimeFailure


def test_addresses_are_kept_and_used_again_late(tmp_path: Path) -> None:
    subnet = ip_network("10.1.1.0/29")
    pool = AddressPool(subnet, tmp_path)
    assert pool.allocate("a") == pool.allocate("a") == "10.1.1.2"
    assert pool.allocate("b") == "10.1.1.3"
    pool.release("a")
    assert AddressPool(subnet, tmp_path).allocate("c") == "10.1.1.4"
    assert [pool.allocate(name) for name in "def"] == ["10.1.1.5", "10.1.1.6", "10.1.1.2"]
    with pytest.raises(RuntimeFailure, match="no free address"):
        pool.allocate("g")


def test_a_pool_of_two_versions_gives_one_of_each(tmp_path: Path) -> None:
    six, four = pools(("fd00:1::/64", "10.1.1.0/24"), tmp_path)
    assert [six.allocate("a"), four.allocate("a")] == ["fd00:1::2", "10.1.1.2"]
    assert (six.gateway, four.gateway) == ("fd00:1::1", "10.1.1.1")
    six.release("a")
    assert six.allocate("b") == "fd00:1::3"
    assert four.owners() == {"a": "10.1.1.2"}


def test_the_end_of_a_large_range_leads_to_its_beginning(tmp_path: Path) -> None:
    state = {"last": "fd00:1::ffff:ffff:ffff:fffe", "owners": {"a": "fd00:1::2"}}
    (tmp_path / "addresses6.json").write_text(json.dumps(state))
    assert AddressPool(ip_network("fd00:1::/64"), tmp_path).allocate("b") == "fd00:1::3"


def test_what_an_earlier_version_wrote_is_kept(tmp_path: Path) -> None:
    (tmp_path / "addresses.json").write_text('{"last": "10.1.1.9", "owners": {"a": "10.1.1.9"}}')
    pool = AddressPool(ip_network("10.1.1.0/24"), tmp_path)
    assert (pool.allocate("a"), pool.allocate("b")) == ("10.1.1.9", "10.1.1.10")
