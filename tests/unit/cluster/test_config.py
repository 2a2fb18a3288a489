from __future__ import annotations

import json
import socket
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster import config as configs
from tiphys.cluster import paths
from tiphys.cluster.ranges import MAX_NODES, ranges_of

REAL_ROUTES = configs._routes


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIPHYS_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(configs, "_routes", lambda: iter(()))
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    return tmp_path


def make(name: str) -> configs.ClusterConfig:
    return configs.create(name, 0, None, "")


def test_what_was_created_is_loaded_again() -> None:
    config = make("a").with_nodes(2)
    config.save()
    assert configs.load("a") == config
    assert configs.names() == ["a"]
    assert configs.load("b") is None


def test_clusters_share_neither_ranges_nor_ports() -> None:
    one, other = make("a"), make("b")
    assert one.port != other.port
    ranges = [network for config in (one, other) for each in config.ranges for network in each]
    assert not any(x.overlaps(y) for i, x in enumerate(ranges) for y in ranges[i + 1 :])


def test_ranges_that_the_host_routes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "_routes", lambda: iter([IPv4Network("10.244.3.0/24")]))
    assert make("a").index == 1


def test_nodes_have_addresses_of_their_own_and_a_removed_one_s_are_free() -> None:
    config = make("a").with_nodes(3)
    assert [str(*config.node_addresses(node)) for node in config.nodes] == ["10.89.0.2", "10.89.0.3", "10.89.0.4"]
    assert str(*config.pod_cidrs(config.nodes[0])) == "10.244.1.0/24"
    fewer = config.without_node("node-2")
    assert fewer.with_node("late").nodes[-1] == configs.NodeConfig("late", 2)


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "x" * 31, "../up"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(Permanent, match="is invalid"):
        make(name)


def test_an_unknown_cluster_is_refused_with_those_that_exist() -> None:
    make("a")
    with pytest.raises(Permanent, match="no cluster 'b'; clusters: a"):
        configs.existing("b")


def test_a_broken_configuration_is_named(home: Path) -> None:
    config = make("a")
    config.paths.config.write_text("{")
    with pytest.raises(Permanent, match=r"clusters/a\.json"):
        configs.load("a")


def test_configuration_is_private() -> None:
    config = make("a")
    assert config.paths.config.stat().st_mode & 0o077 == 0
    assert config.paths.pki.stat().st_mode & 0o077 == 0


def test_what_the_data_directory_lost_is_known_from_the_copy() -> None:
    config = make("a").with_nodes(2)
    config.save()
    config.paths.config.unlink()
    assert configs.load("a") == config
    config.paths.config.write_text("{")
    assert configs.last_known("a") == config


def test_a_directory_with_other_things_is_refused(home: Path) -> None:
    (home / "letter").touch()
    with pytest.raises(Permanent, match=r"not empty \(.*\); it must be new or empty"):
        configs.create("a", 0, home, "")
    assert configs.names() == []


def test_data_that_are_there_are_the_cluster_s_again(home: Path) -> None:
    config = configs.create("a", 0, home / "data", "").with_nodes(2)
    config.save()
    paths.pointer("a").unlink()
    assert configs.create("a", 0, home / "data", "") == config
    paths.pointer("a").unlink()
    with pytest.raises(Permanent, match="it has the data of cluster 'a', not 'b'"):
        configs.create("b", 0, home / "data", "")
    make("c")
    with pytest.raises(Permanent, match="its address ranges are those of cluster c now"):
        configs.create("a", 0, home / "data", "")


def test_a_port_that_is_taken_is_refused_with_who_has_it() -> None:
    config = make("a")
    with pytest.raises(Permanent, match=f"port {config.port} is that of cluster a"):
        configs.create("b", config.port, None, "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Permanent, match=f"port {port} of 127.0.0.1 is in use"):
            configs.create("b", port, None, "")
    assert configs.names() == ["a"]


def test_a_home_of_its_own_has_a_run_directory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIPHYS_RUN")
    assert paths.run_root().name.startswith("tiphys-")
    monkeypatch.delenv("TIPHYS_HOME")
    assert str(paths.run_root()) == "/run/tiphys"


def made(family: str, name: str = "a") -> configs.ClusterConfig:
    return configs.create(name, 0, None, "", family)


def test_a_dual_cluster_has_addresses_of_both_families_the_ipv4_ones_first() -> None:
    config = made("dual").with_nodes(2)
    assert list(map(str, config.node_networks)) == ["10.89.0.0/24", "fd74:6970:6800::/64"]
    assert list(map(str, config.pod_networks)) == ["10.244.0.0/16", "fd74:6970:6800:1000::/52"]
    assert list(map(str, config.service_networks)) == ["10.96.0.0/16", "fd74:6970:6800:2::/112"]
    assert list(map(str, config.node_addresses(config.nodes[1]))) == ["10.89.0.3", "fd74:6970:6800::3"]
    assert list(map(str, config.pod_cidrs(config.nodes[1]))) == ["10.244.2.0/24", "fd74:6970:6800:1002::/64"]
    assert config.load_balancers == "10.89.0.202-10.89.0.254,fd74:6970:6800::1000-fd74:6970:6800::1fff"


def test_an_ipv6_cluster_has_no_other_addresses() -> None:
    config = made("ipv6")
    assert {network.version for each in config.ranges for network in each} == {6}
    assert str(config.gateway) == "fd74:6970:6800::1"


def test_ranges_of_no_two_clusters_overlap_whatever_their_families() -> None:
    last = ranges_of(configs.MAX_CLUSTERS - 1, "dual")
    every = [n for index in range(3) for each in ranges_of(index, "dual") for n in each] + [n for e in last for n in e]
    assert not any(x.version == y.version and x.overlaps(y) for i, x in enumerate(every) for y in every[i + 1 :])
    assert all(each.pods.overlaps(each.pod_cidr(MAX_NODES)) for each in last)


def test_ipv6_routes_of_the_host_are_left_alone_by_clusters_that_have_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "_routes", lambda: iter([IPv6Network("fd74:6970:6800::/56")]))
    assert made("ipv4", "four").index == 0
    paths.pointer("four").unlink()
    assert made("dual", "both").index == 1


def test_the_bridge_of_another_homes_cluster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["lo", "tiphys0", "tiphys0-1", "tiphys1", "tiphys30-2"]
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names)))
    assert made("ipv6").index == 2


def test_the_hosts_own_routes_can_be_read() -> None:
    assert all(each.prefixlen for each in REAL_ROUTES())


def test_a_configuration_of_a_former_version_is_an_ipv4_cluster_s() -> None:
    config = make("a")
    value = json.loads(config.paths.config.read_text())
    del value["ip_family"]
    config.paths.config.write_text(json.dumps(value))
    assert configs.load("a") == config


def test_ipv6_that_is_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "has_ipv6", lambda: False)
    with pytest.raises(Permanent, match="--ip-family dual: IPv6 is switched off on this machine"):
        made("dual")
    assert configs.names() == []
    assert made("ipv4").ip_family == "ipv4"


def test_a_family_that_is_none_is_refused() -> None:
    with pytest.raises(Permanent, match="must be one of ipv4, ipv6, dual"):
        made("ipv5")
    config = make("a")
    config.paths.config.write_text(config.paths.config.read_text().replace('"ipv4"', '"ipv5"'))
    with pytest.raises(Permanent, match="ip_family 'ipv5'"):
        configs.load("a")
