"""Where a cluster lets nodes of other machines join, and what their file tells them."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster.alone import flags
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.join import joining, token
from tiphys.cluster.kubeconfig import entry
from tiphys.overlay.types import ADDRESS, SUBNETS

HERE = "192.0.2.7"


@pytest.fixture
def config(tmp_path: Path) -> ClusterConfig:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.crt").write_text("authority")
    return ClusterConfig("wide", 3, 6443, str(tmp_path), listen=HERE)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "by which other machines reach this one"),
        ("127.0.0.1", "by which other machines reach this one"),
        ("example.org", "not an IP address"),
        ("203.0.113.77", "no address of this machine"),
    ],
)
def test_an_address_that_others_cannot_reach_is_refused(config: ClusterConfig, address: str, why: str) -> None:
    with pytest.raises(Permanent, match="--listen") as refused:
        joining.changed(replace(config, listen=""), address, "", running=False)
    assert why in str(refused.value)


def test_nothing_is_changed_under_a_running_cluster(config: ClusterConfig) -> None:
    assert joining.changed(config, HERE, "vxlan", running=True) == config
    assert joining.changed(config, "", "", running=True) == config
    for listen, overlay in (("none", ""), ("", "host-routes")):
        with pytest.raises(Permanent, match="`tiphys down wide` first"):
            joining.changed(config, listen, overlay, running=True)
    assert joining.changed(config, "none", "", running=False).listen == ""


def test_host_routes_are_refused_where_they_would_lead_to_half_of_the_pods(
    config: ClusterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "check", lambda address, port: address)
    assert joining.changed(config, HERE, "host-routes", running=False).overlay == "host-routes"
    with pytest.raises(Permanent, match="take vxlan"):
        joining.changed(replace(config, ip_family="dual"), HERE, "host-routes", running=False)


def test_nodes_tell_others_how_they_are_reached_or_that_they_are_not(config: ClusterConfig) -> None:
    assert joining.notes(config) == {ADDRESS: HERE, SUBNETS: "10.89.3.0/24"}
    assert joining.notes(replace(config, listen="")) == {ADDRESS: None, SUBNETS: None}


def test_the_file_tells_a_node_all_that_it_needs(config: ClusterConfig, tmp_path: Path) -> None:
    config.paths.make()
    file = tmp_path / "join"
    file.write_text(json.dumps(token.document(config, "abcdef.0123456789abcdef")))
    parser = argparse.ArgumentParser()
    from tiphys.cluster.components import add_kubelet_flags

    add_kubelet_flags(parser)
    options = parser.parse_args(["--join", str(file), "--root-dir", str(tmp_path / "root")])
    flags.settle(options)
    assert options.bootstrap_kubeconfig == str(file)
    assert options.kubeconfig == str(tmp_path / "root" / "kubeconfig")
    assert (options.cluster_dns, options.network, options.vxlan_id) == ("10.99.0.10", "vxlan", 4)
    assert Path(options.client_ca_file).read_text() == "authority"
    assert "tiphys.io/cluster-dns=true" in options.node_labels
    assert options.rotate_certificates
    assert options.server_tls_bootstrap


def test_flags_win_over_the_file(config: ClusterConfig, tmp_path: Path) -> None:
    config.paths.make()
    file = tmp_path / "join"
    file.write_text(json.dumps(token.document(config, "abcdef.0123456789abcdef")))
    parser = argparse.ArgumentParser()
    from tiphys.cluster.components import add_kubelet_flags

    add_kubelet_flags(parser)
    words = ["--join", str(file), "--root-dir", str(tmp_path), "--network", "none", "--cluster-dns", "10.0.0.1"]
    options = parser.parse_args([*words, "--name-server=false", "--vxlan-id", "9"])
    flags.settle(options)
    assert (options.cluster_dns, options.network, options.vxlan_id) == ("10.0.0.1", "none", 9)
    assert "cluster-dns" not in options.node_labels


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps(entry("x", "https://x", b"", b"", b""))])
def test_a_file_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "join"
    file.write_text(text)
    options = argparse.Namespace(join=file)
    with pytest.raises(Permanent, match=f"--join {file}"):
        flags.settle(options)


def test_no_token_for_a_cluster_that_nobody_can_join(config: ClusterConfig) -> None:
    with pytest.raises(Permanent, match=r"tiphys up wide --listen ADDRESS"):
        token.check(replace(config, listen=""))
    with pytest.raises(Permanent, match="is not running"):
        token.check(config)
