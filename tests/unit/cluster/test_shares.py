"""What the nodes of a cluster offer of the machine that they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tiphys.api.quantity import parse
from tiphys.base.errors import Permanent
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.shares import LiveShare, check, parse_size, share, shared
from tiphys.kubelet.machine import Machine

GIB, MIB = 1 << 30, 1 << 20
MACHINE = shared(Machine(4, 10 * GIB, 100 * GIB, hugepages=((2 * MIB, 10 * MIB), (GIB, 0))))


def cluster(nodes: int, **more: object) -> ClusterConfig:
    found = ClusterConfig("demo", 0, 6443, "/nowhere", tuple(NodeConfig(f"node-{i}", i) for i in range(1, nodes + 1)))
    return replace(found, **more)  # type: ignore[arg-type]  # fields by name


def test_a_single_node_has_the_whole_machine() -> None:
    assert share(1, {}, MACHINE) == {}


@pytest.mark.parametrize("nodes", [2, 3, 7, 150])
def test_shares_are_no_more_than_there_is(nodes: int) -> None:
    found = share(nodes, {}, MACHINE)
    for name, amount in MACHINE.items():
        assert parse(found[name]).nanos * nodes <= amount.nanos
    assert "pods" not in found


def test_shares_are_written_as_people_do() -> None:
    assert share(3, {}, MACHINE) == {
        "cpu": "1333m",
        "ephemeral-storage": "34133Mi",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "2Mi",
        "memory": "3413Mi",
    }


def test_a_size_counts_instead_of_a_share() -> None:
    found = share(2, {"cpu": "1", "pods": "20"}, MACHINE)
    assert (found["cpu"], found["pods"], found["memory"]) == ("1", "20", "5Gi")
    assert share(1, {"cpu": "1"}, MACHINE) == {"cpu": "1"}


def test_sizes_beyond_the_machine_are_for_simulations() -> None:
    check(cluster(2, node_size={"cpu": "2", "memory": "5Gi"}), MACHINE)
    with pytest.raises(Permanent, match=r"3 nodes with cpu 2 need 6, this machine has 4; --overcommit"):
        check(cluster(3, node_size={"cpu": "2"}), MACHINE)
    check(cluster(3, node_size={"cpu": "2"}, overcommit=True), MACHINE)
    check(cluster(9, node_size={"pods": "500"}), MACHINE)


def test_sizes_are_read() -> None:
    assert parse_size("cpu=2, memory=4Gi,hugepages-2Mi=4Mi") == {"cpu": "2", "memory": "4Gi", "hugepages-2Mi": "4Mi"}


@pytest.mark.parametrize("text", ["cpu", "cpu=", "cpu=0", "cpu=-1", "memory=much", "disk=1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Permanent, match="--node-size"):
        parse_size(text)


def test_a_node_offers_less_when_another_one_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path))
    config = replace(cluster(1), data=str(tmp_path / "data"))
    config.paths.data.mkdir(parents=True)
    config.save()
    live = LiveShare(config, lambda config: MACHINE)
    assert dict(live) == {}
    config.with_nodes(2).save()
    assert live["cpu"] == "2"
    assert len(live) == len(MACHINE)
