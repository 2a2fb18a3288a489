"""What the Service proxies of a node and of the host are told of their cluster."""

from __future__ import annotations

from pathlib import Path

from tiphys.cluster import lifecycle, node_services
from tiphys.cluster.config import ClusterConfig, NodeConfig
from tiphys.cluster.node_network import Place

CLUSTER = ClusterConfig(
    "c", 3, 6443, "/data", nodes=(NodeConfig("node-1", 1),), ip_family="dual", balancing="round-robin"
)


def test_the_host_knows_what_is_near() -> None:
    config = node_services.host_config(CLUSTER)
    assert config.table == "tiphys3-services"
    assert config.node == ""
    assert config.families == ("IPv4", "IPv6")
    assert {str(network) for network in CLUSTER.node_networks} <= set(config.near)
    assert config.balancing == "round-robin"


def test_the_addresses_of_load_balancers_are_those_that_no_node_has() -> None:
    found = node_services.load_balancers(CLUSTER)
    assert found[0] == "10.89.3.202/31"
    assert "10.89.3.254/32" in found
    assert "fd74:6970:6803::1000/116" in found


def test_a_node_knows_its_own_pods_and_addresses() -> None:
    place = Place("node-1", "/run/x", ("10.89.3.2",), ("10.241.1.0/24",), "cluster.local", "round-robin")
    config = node_services.proxy_config(place)
    assert (config.node, config.node_ips, config.local_pods) == ("node-1", ("10.89.3.2",), ("10.241.1.0/24",))
    assert (config.families, config.balancing) == (("IPv4",), "round-robin")


def test_balancing_is_kept_and_changed_while_nothing_runs(tmp_path: Path) -> None:
    config = ClusterConfig("c", 3, 6443, str(tmp_path))
    assert config.balancing == "random"
    changed = lifecycle._changed(config, lifecycle.UpOptions(name="c", balancing="round-robin"))
    assert changed.balancing == "round-robin"
    assert lifecycle._changed(changed, lifecycle.UpOptions(name="c")).balancing == "round-robin"
