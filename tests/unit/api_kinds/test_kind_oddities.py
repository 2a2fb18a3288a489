"""Rules that only odd objects meet: what is kept, what is said and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.decode.values import micro_time
from tiphys.api.kinds.apps.daemonset import DaemonSet
from tiphys.api.kinds.apps.deployment import Deployment
from tiphys.api.kinds.apps.statefulset import StatefulSet
from tiphys.api.kinds.base import Context
from tiphys.api.kinds.batch.job import Job
from tiphys.api.kinds.core.node import Node
from tiphys.api.kinds.core.persistentvolume import PersistentVolume
from tiphys.api.kinds.core.pod import Pod
from tiphys.api.kinds.core.secret import Secret
from tiphys.api.kinds.core.service import Service, settle_families
from tiphys.api.validation.goform import difference

CONTEXT = Context(now=0.0)


@pytest.mark.parametrize(
    ("text", "rest", "element"),
    [
        ("2026-01-02T03:04:05Z", "Z", ".000000"),
        ("2026-01-02T03:04:05.123Z", ".123Z", ".000000"),
        ("2026-01-02T03:04:05.1234567Z", "7Z", "Z07:00"),
    ],
)
def test_micro_times_have_six_digits(text: str, rest: str, element: str) -> None:
    with pytest.raises(ValueError, match=f'cannot parse "{rest}" as "{element}"'):
        micro_time(text)
    assert micro_time("2026-01-02T03:04:05.123456Z") == "2026-01-02T03:04:05.123456Z"


def test_a_negative_grace_period_of_a_pod_is_one_second() -> None:
    pod: dict[str, Any] = {"spec": {"terminationGracePeriodSeconds": -5, "containers": []}}
    Pod().default(pod, "v1")
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1


def test_a_job_without_labels_shares_those_of_its_pods() -> None:
    job: dict[str, Any] = {"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"metadata": {"labels": {}}}}}
    job["spec"]["template"]["metadata"]["labels"]["k"] = "v"
    Job().default(job, "v1")
    Job().prepare_create(job, CONTEXT)
    assert job["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "j"
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]


def test_rolling_numbers_of_a_daemon_set_that_does_not_roll_are_zero() -> None:
    daemons: dict[str, Any] = {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"maxSurge": 1}}}}
    DaemonSet().default(daemons, "v1")
    assert daemons["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_claims_of_a_stateful_set_are_claims_and_ask_for_whole_bytes() -> None:
    claim = {"kind": "Other", "apiVersion": "v9", "spec": {"resources": {"requests": {"storage": "100m"}}}}
    sets: dict[str, Any] = {"metadata": {"name": "s"}, "spec": {"volumeClaimTemplates": [claim]}}
    StatefulSet().default(sets, "v1")
    made = sets["spec"]["volumeClaimTemplates"][0]
    assert (made["kind"], made["apiVersion"]) == ("PersistentVolumeClaim", "v1")
    (text,) = [text for text in StatefulSet().warnings(sets, None, CONTEXT) if "fractional" in text]
    assert text.startswith("spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value")


def test_a_tls_secret_without_data_is_warned_of() -> None:
    texts = Secret().warnings({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}, None, CONTEXT)
    assert texts == ["tls: failed to find any PEM data in certificate input"]


def test_a_cidr_that_cannot_be_read_hides_the_families_of_the_others() -> None:
    node = {"spec": {"podCIDRs": ["10.0.0.0/24", "x"]}, "status": {}}
    texts = [str(error) for error in Node().validate(node, CONTEXT)]
    assert any("invalid CIDR[1]: <nil> (invalid CIDR address: x)" in text for text in texts)


def test_a_key_of_a_volumes_affinity_may_become_empty() -> None:
    def volume(key: str) -> dict[str, Any]:
        term = {"matchExpressions": [{"key": key, "operator": "Exists"}]}
        affinity = {"required": {"nodeSelectorTerms": [term]}}
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/p"}}
        return {"metadata": {"name": "v"}, "spec": {**spec, "nodeAffinity": affinity}}

    def fields(key: str) -> set[str]:
        return {error.field for error in PersistentVolume().validate_update(volume(key), volume("zone"), CONTEXT)}

    assert "nodeAffinity" in fields("other")
    assert "nodeAffinity" not in fields("")


def test_node_ports_go_with_the_type_when_none_is_new() -> None:
    ports = [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]
    old = {"metadata": {}, "spec": {"type": "NodePort", "ports": ports, "clusterIP": "10.0.0.1"}}
    kept = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30002}]
    new: dict[str, Any] = {"metadata": {}, "spec": {"type": "ClusterIP", "ports": kept}}
    Service().prepare_update(new, old, CONTEXT)
    assert all("nodePort" not in port for port in new["spec"]["ports"])


def test_node_ports_that_are_no_longer_wanted_are_not_carried_over() -> None:
    old = {"metadata": {}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30001}]}}
    for allocate, kept in ((True, 30001), (False, None)):
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": allocate}
        new: dict[str, Any] = {"metadata": {}, "spec": spec}
        Service().prepare_update(new, old, CONTEXT)
        assert new["spec"]["ports"][0].get("nodePort") == kept


def test_only_pods_have_their_ports_on_the_host_by_default() -> None:
    def spec() -> dict[str, Any]:
        return {"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}

    pod: dict[str, Any] = {"spec": spec()}
    Pod().default(pod, "v1")
    assert pod["spec"]["containers"][0]["ports"][0]["hostPort"] == 80
    daemons: dict[str, Any] = {"spec": {"template": {"spec": spec()}}}
    DaemonSet().default(daemons, "v1")
    assert "hostPort" not in daemons["spec"]["template"]["spec"]["containers"][0]["ports"][0]


def test_what_makes_no_sense_is_said_before_families_are_filled_in() -> None:
    service: dict[str, Any] = {"metadata": {}, "spec": {"type": "ClusterIP", "clusterIPs": ["v", "v"]}}
    Service().prepare_create(service, CONTEXT)
    assert "ipFamilies" not in service["spec"]
    fields = [error.field for error in settle_families(service["spec"], None, ("IPv4",))]
    assert fields == ["spec.clusterIPs", "spec.clusterIPs[0]", "spec.clusterIPs[1]"]


def test_selectors_show_as_json_has_them() -> None:
    old = {"selector": {"matchLabels": {"a": "b"}}}
    new = {"selector": {"matchLabels": {}, "matchExpressions": [{"operator": "In", "key": "k"}]}}
    text = difference("PersistentVolumeClaimSpec", old, new)
    assert '+    "key": "k",\n+    "operator": "In"\n' in text
    assert '"matchLabels": {}' not in text


def test_a_status_leaves_the_labels_of_a_deployment_and_the_count_of_a_daemon_set_alone() -> None:
    old: dict[str, Any] = {"metadata": {"labels": {"a": "b"}}, "spec": {}}
    new: dict[str, Any] = {"metadata": {"labels": {"c": "d"}}, "spec": {}}
    Deployment().prepare_status_update(new, old, CONTEXT)
    assert new["metadata"]["labels"] == {"a": "b"}
    counted = {"metadata": {"annotations": {"deprecated.daemonset.template.generation": "3"}}}
    daemons: dict[str, Any] = {"metadata": {}}
    DaemonSet().prepare_status_update(daemons, counted, CONTEXT)
    assert daemons["metadata"] == counted["metadata"]


def test_labels_that_a_job_only_generated_are_not_its_own_when_they_are_wrong() -> None:
    for name, labelled in (("j", True), ("-x", False)):
        job: dict[str, Any] = {"metadata": {"name": name, "uid": "u"}, "spec": {"template": {}}}
        Job().default(job, "v1")
        Job().prepare_create(job, CONTEXT)
        assert ("labels" in job["metadata"]) is labelled
