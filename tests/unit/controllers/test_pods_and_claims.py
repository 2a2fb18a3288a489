from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.base.errors import Permanent
from tiphys.controllers.claims import claim
from tiphys.controllers.daemonset import by_node, place, roll
from tiphys.controllers.manager import ALIASES, OFF, ON_REQUEST, choose, registry
from tiphys.controllers.objects import semantically_equal, template_hash
from tiphys.controllers.pods import available, next_availability, ranked_for_deletion

NOW = 1_767_225_600.0


def pod(
    name: str, *, node: str = "n", phase: str = "Running", ready_for: float | None = 60, **meta: Any
) -> dict[str, Any]:
    conditions = []
    if ready_for is not None:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(NOW - ready_for)})
    restarts = meta.pop("restarts", 0)
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": rfc3339(NOW - 600), **meta},
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": [{"restartCount": restarts}]},
    }


def test_pods_that_are_least_of_use_are_deleted_first() -> None:
    cheap = pod("cheap", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"})
    ordered = [
        pod("unbound", node="", phase="Pending", ready_for=None),
        pod("pending", phase="Pending", ready_for=None),
        pod("unready", ready_for=None),
        cheap,
        pod("doubled", node="two"),
        pod("restarted", restarts=3),
        pod("fresh-ready", ready_for=1, node="x"),
        pod("old", ready_for=500, node="x"),
    ]
    related = [pod("a", node="two"), pod("b", node="two"), *ordered]
    names = [each["metadata"]["name"] for each in ranked_for_deletion(list(reversed(ordered)), related, NOW)]
    assert names[:4] == ["unbound", "pending", "unready", "cheap"]
    assert names.index("fresh-ready") < names.index("old")


def test_availability_needs_readiness_for_a_while() -> None:
    young = pod("a", ready_for=10)
    assert available(young, 0, NOW)
    assert not available(young, 30, NOW)
    assert next_availability([young, pod("b", ready_for=25)], 30, NOW) == 5
    assert next_availability([young], 0, NOW) is None


def owner(uid: str = "o", **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "o", "namespace": "ns", "uid": uid, **meta},
    }


def owned(name: str, uid: str = "o", **meta: Any) -> dict[str, Any]:
    reference = {"kind": "ReplicaSet", "name": "o", "uid": uid, "controller": True}
    return pod(name, ownerReferences=[reference], **meta)


def test_claims_keep_adopt_release_and_leave_alone() -> None:
    fits: dict[str, Any] = {"labels": {"app": "web"}}
    objects = [
        owned("mine", **fits),
        owned("strayed"),
        owned("other", uid="x", **fits),
        pod("orphan", **fits),
        pod("no"),
    ]
    going = pod("going", deletionTimestamp="t", **fits)
    claims = claim(owner(), lambda labels: labels.get("app") == "web", [*objects, going])

    def names(group: Any) -> list[str]:
        return [each["metadata"]["name"] for each in group]

    assert (names(claims.owned), names(claims.adopt), names(claims.release)) == (["mine"], ["orphan"], ["strayed"])
    dying = claim(owner(deletionTimestamp="t"), lambda labels: labels.get("app") == "web", objects)
    assert (names(dying.adopt), names(dying.release)) == ([], [])


def daemon_set(**strategy: Any) -> dict[str, Any]:
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0, **strategy}}
    return {"metadata": {"name": "ds", "uid": "ds"}, "spec": {"template": {"spec": {}}, "updateStrategy": update}}


def node(name: str, *taints: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {}}, "spec": {"taints": list(taints)}, "status": {}}


def daemon_pod(name: str, where: str, revision: str = "new", **options: Any) -> dict[str, Any]:
    return pod(name, node=where, labels={"controller-revision-hash": revision}, **options)


def test_every_node_that_admits_a_daemon_pod_gets_one() -> None:
    nodes = [
        node("a"),
        node("b"),
        node("tainted", {"key": "k", "effect": "NoSchedule"}),
        node("not-ready", {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}),
    ]
    pods = [daemon_pod("one", "b"), daemon_pod("two", "b"), daemon_pod("stays", "tainted")]
    decision = place(daemon_set(), nodes, by_node(pods), "new", NOW)
    assert decision.create == ("a", "not-ready")
    assert [each["metadata"]["name"] for each in decision.delete] == ["two"]


def test_a_rolling_update_replaces_broken_pods_at_once_and_others_one_at_a_time() -> None:
    nodes = [node(name) for name in "abc"]
    healthy = [daemon_pod(f"p{name}", name, "old") for name in "abc"]
    assert len(roll(daemon_set(), nodes, by_node(healthy), "new", NOW).delete) == 1
    broken = [daemon_pod("pa", "a", "old", ready_for=None), *healthy[1:]]
    assert [each["metadata"]["name"] for each in roll(daemon_set(), nodes, by_node(broken), "new", NOW).delete] == [
        "pa"
    ]


def test_with_surge_new_pods_come_before_old_ones_go() -> None:
    nodes = [node(name) for name in "ab"]
    surging = daemon_set(maxSurge=1, maxUnavailable=0)
    old = [daemon_pod(f"p{name}", name, "old") for name in "ab"]
    assert len(roll(surging, nodes, by_node(old), "new", NOW).create) == 1
    both = [*old, daemon_pod("qa", "a", "new")]
    step = roll(surging, nodes, by_node(both), "new", NOW)
    assert [each["metadata"]["name"] for each in step.delete] == ["pa"]


def test_templates_are_told_apart_by_a_short_hash_that_ignores_nothing_but_order() -> None:
    one, other = {"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}
    assert template_hash(one) == template_hash(other) != template_hash({"a": 2})
    assert template_hash(one, 1) != template_hash(one)


def test_absent_null_and_empty_are_the_same() -> None:
    assert semantically_equal({"a": None, "b": {"c": []}}, {"b": {}})
    assert not semantically_equal({"a": 0}, {})


KNOWN = list(registry())
USUAL = [each for each in KNOWN if each not in ON_REQUEST]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("*", USUAL),
        ("*,tokencleaner", [each for each in KNOWN if each in {*USUAL, "token-cleaner-controller"}]),
        ("job-controller,cronjob", ["job-controller", "cronjob-controller"]),
        ("*,-job-controller", [each for each in USUAL if each != "job-controller"]),
        ("*,-cloud-node-lifecycle,storage-version-migrator-controller", USUAL),
        ("-job-controller,job,*", [each for each in USUAL if each != "job-controller"]),
        ("-podgc,*", [each for each in USUAL if each != "pod-garbage-collector-controller"]),
        ("", []),
    ],
)
def test_controllers_are_chosen_by_upstreams_names(asked: str, expected: list[str]) -> None:
    assert choose(asked, KNOWN) == expected


@pytest.mark.parametrize("asked", ["nonsense", "*,-nonsense"])
def test_names_that_nobody_has_are_refused(asked: str) -> None:
    with pytest.raises(Permanent, match='"nonsense" is not in the list of known controllers'):
        choose(asked, KNOWN)


OWN = {"cluster-dns-controller"}
"""What upstream has no controller for."""


def test_every_name_of_upstream_is_known_and_few_others() -> None:
    """As `kube-controller-manager --help` of 1.36 lists them."""
    upstreams = set(UPSTREAM.split())
    assert {*KNOWN, *OFF} == upstreams | OWN
    assert set(ALIASES.values()) <= upstreams
    assert not set(ALIASES) & upstreams
    assert {"bootstrap-signer-controller", "selinux-warning-controller", "token-cleaner-controller"} == ON_REQUEST


UPSTREAM = """
    bootstrap-signer-controller certificatesigningrequest-approving-controller
    certificatesigningrequest-cleaner-controller certificatesigningrequest-signing-controller
    cloud-node-lifecycle-controller clusterrole-aggregation-controller cronjob-controller daemonset-controller
    deployment-controller device-taint-eviction-controller disruption-controller endpoints-controller
    endpointslice-controller endpointslice-mirroring-controller ephemeral-volume-controller garbage-collector-controller
    horizontal-pod-autoscaler-controller job-controller kube-apiserver-serving-clustertrustbundle-publisher-controller
    legacy-serviceaccount-token-cleaner-controller namespace-controller node-ipam-controller node-lifecycle-controller
    node-route-controller persistentvolume-attach-detach-controller persistentvolume-binder-controller
    persistentvolume-expander-controller persistentvolume-protection-controller
    persistentvolumeclaim-protection-controller pod-garbage-collector-controller
    podcertificaterequest-cleaner-controller
    podgroup-protection-controller replicaset-controller replicationcontroller-controller resourceclaim-controller
    resourcepoolstatusrequest-controller resourcequota-controller root-ca-certificate-publisher-controller
    selinux-warning-controller service-cidr-controller service-lb-controller serviceaccount-controller
    serviceaccount-token-controller statefulset-controller storage-version-migrator-controller
    storageversion-garbage-collector-controller taint-eviction-controller token-cleaner-controller
    ttl-after-finished-controller ttl-controller validatingadmissionpolicy-status-controller
    volumeattributesclass-protection-controller
"""
