"""The gateway as a component of a cluster: its name, its account, what may be deleted with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster import gateway_objects, pki, processes, status
from tiphys.cluster.config import ClusterConfig


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterConfig:
    monkeypatch.setenv("TIPHYS_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path / "home"))
    return ClusterConfig("c", 0, 6443, str(tmp_path / "data")).with_nodes(1)


@pytest.mark.parametrize("name", ["gateway", "control-plane"])
def test_no_node_may_be_called_like_another_component(config: ClusterConfig, name: str) -> None:
    with pytest.raises(Permanent, match="name of another component"):
        config.with_node(name)


def test_it_is_a_component_from_its_first_start_on(config: ClusterConfig) -> None:
    assert [one.name for one in status.of(config).components] == ["control-plane", "node-1"]
    config.paths.make()
    config.paths.lock(processes.GATEWAY).touch()
    assert [one.name for one in status.of(config).components] == ["control-plane", "node-1", "gateway"]


def test_its_account_is_in_no_group_and_reads_no_more_than_it_serves(config: ClusterConfig) -> None:
    (subject,) = [one for one in pki.subjects(config) if one.file == "gateway"]
    assert (subject.common_name, subject.organizations, subject.client) == (gateway_objects.USER, (), True)
    granted = {
        (group, resource, verb)
        for rule in gateway_objects.cluster_role()["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert ("", "secrets", "list") in granted
    assert not any("*" in part for permission in granted for part in permission)
    written = {resource for _, resource, verb in granted if verb not in ("get", "list", "watch")}
    assert written == {
        "services",
        "events",
        "endpointslices",
        "ingresses/status",
        "gatewayclasses/status",
        "gateways/status",
        "httproutes/status",
    }


def test_a_role_that_was_changed_gets_its_rules_back() -> None:
    role = next(one for one in gateway_objects.desired() if one.plural == "clusterroles")
    assert role.renew is not None
    assert role.renew(role.obj) is None
    changed = role.renew({**role.obj, "rules": []})
    assert changed is not None
    assert changed["rules"] == role.obj["rules"]
