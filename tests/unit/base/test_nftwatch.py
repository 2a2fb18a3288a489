"""Deleted tables are heard of, in a network namespace of the test's own."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiphys.base.nftables import Nftables
from tiphys.base.nftwatch import TableWatch
from tiphys.runtime import netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")


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


@pytest.fixture
def watch(namespace: str) -> Iterator[TableWatch]:
    opened = TableWatch(lambda work: netns.inside(namespace, work))
    yield opened
    opened.close()


def test_a_deleted_table_is_told_by_name(nft: Nftables, watch: TableWatch) -> None:
    nft.run("add table ip mine; add table ip6 mine; add table inet other")
    assert watch.deleted() == set()
    nft.run("delete table ip mine")
    assert select.select([watch], [], [], 5)[0]
    assert watch.deleted() == {"mine"}
    nft.run("flush ruleset")
    assert watch.deleted() == {"mine", "other"}


def test_what_changes_inside_a_table_is_not_told(nft: Nftables, watch: TableWatch) -> None:
    nft.run("add table ip mine; add chain ip mine c; delete chain ip mine c; add set ip mine s { type ipv4_addr; }")
    assert watch.deleted() == set()


def test_too_much_to_hear_is_told_as_not_known(nft: Nftables, watch: TableWatch) -> None:
    nft.run("add table ip mine; add set ip mine s { type ipv4_addr; }")
    for third in range(20):
        addresses = ", ".join(f"10.0.{third}.{fourth}" for fourth in range(250))
        nft.run(f"add element ip mine s {{ {addresses} }}")
    assert watch.deleted() is None
    nft.run("delete table ip mine")
    assert watch.deleted() == {"mine"}
