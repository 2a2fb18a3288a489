"""Transactions by libnftables, each test in a network namespace that is its own."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiphys.base.nftables import Nftables, NftablesError, absence
from tiphys.runtime import netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")

TABLE = "add table inet t; add set inet t s { type ipv4_addr; }; add element inet t s { 10.0.0.1, 10.0.0.2 }"


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "netns"
    netns.persist(path)
    yield str(path)
    netns.drop(path)


@pytest.fixture
def nft(namespace: str) -> Iterator[Nftables]:
    with Nftables(lambda work: netns.inside(namespace, work)) as opened:
        yield opened


def test_commands_take_effect_inside_the_namespace_only(nft: Nftables) -> None:
    nft.run(TABLE)
    assert "10.0.0.1, 10.0.0.2" in nft.run("list table inet t")
    with Nftables() as own:
        assert "table inet t {" not in own.run("list tables")


def test_a_transaction_takes_effect_as_a_whole_or_not_at_all(nft: Nftables) -> None:
    with pytest.raises(NftablesError) as caught:
        nft.run("add table inet t; delete table inet other")
    assert caught.value.errno == errno.ENOENT
    assert "No such file or directory" in str(caught.value)
    assert nft.run("list tables") == ""


def test_text_that_cannot_be_read_is_told_with_its_place(nft: Nftables) -> None:
    with pytest.raises(NftablesError, match=r"syntax error.* in 'nosuch command'") as caught:
        nft.run("nosuch command")
    assert caught.value.errno == errno.EINVAL


def test_an_error_is_not_told_again_by_the_next_call(nft: Nftables) -> None:
    with pytest.raises(NftablesError):
        nft.run("delete table inet other")
    assert nft.run("add table inet t") == ""


def test_a_table_is_listed_as_data(nft: Nftables) -> None:
    nft.run(TABLE)
    table, found = nft.list_json("list table inet t")
    assert table["table"]["name"] == "t"
    assert found["set"]["elem"] == ["10.0.0.1", "10.0.0.2"]


def test_listing_what_is_not_there_is_an_error_with_its_number(nft: Nftables) -> None:
    with pytest.raises(NftablesError) as caught:
        nft.list_json("list table inet t")
    assert caught.value.errno == errno.ENOENT


def test_threads_may_share_it(nft: Nftables) -> None:
    nft.run("add table inet t; add set inet t s { type ipv4_addr; }")

    def fill(third: int) -> None:
        for fourth in range(50):
            nft.run(f"add element inet t s {{ 10.0.{third}.{fourth} }}")

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nft.list_json("list set inet t s")[0]["set"]["elem"]) == 200


def test_a_closed_one_refuses(nft: Nftables) -> None:
    nft.close()
    with pytest.raises(NftablesError, match="closed"):
        nft.run("list tables")


def test_whether_there_is_a_library_can_be_asked() -> None:
    assert absence() == ""
    assert "libnothing.so.9 cannot be loaded: install the package libnftables1" in absence("libnothing.so.9")


def test_a_missing_library_is_told_with_its_package() -> None:
    with pytest.raises(NftablesError, match="install the package libnftables1") as caught:
        Nftables(library="libnftables-missing.so.1")
    assert caught.value.errno == errno.ENOPKG
