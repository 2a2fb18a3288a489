from __future__ import annotations

from typing import Any

import pytest

from tiphys.scheduler import plugins
from tiphys.scheduler.decide import decide
from tiphys.scheduler.snapshot import PodInfo, Snapshot

PLUGINS = plugins.default()


def node(name: str, cpu: str = "2", memory: str = "4Gi", **extra: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, **extra.pop("labels", {})}
    room = {"cpu": cpu, "memory": memory, "pods": "10"}
    return {"metadata": {"name": name, "labels": labels}, "spec": extra, "status": {"allocatable": room}}


def pod(name: str, cpu: str = "100m", **spec: Any) -> PodInfo:
    meta = {"name": name, "namespace": "default", "uid": name, "labels": spec.pop("labels", {})}
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": spec.pop("ports", [])}
    return PodInfo({"metadata": meta, "spec": {"containers": [container], **spec}})


def snapshot(*nodes: dict[str, Any], **placed: list[PodInfo]) -> Snapshot:
    out = Snapshot()
    for item in nodes:
        out.node_changed(None, item)
    for name, pods in placed.items():
        for info in pods:
            out.place(info, name)
    return out


def anti(labels: dict[str, str], key: str = "kubernetes.io/hostname") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": key}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def near(labels: dict[str, str], key: str = "kubernetes.io/hostname") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": key}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_the_emptier_node_wins() -> None:
    cluster = snapshot(node("a"), node("b"), a=[pod("x", cpu="1")])
    assert decide(pod("p"), cluster, PLUGINS).node == "b"


def test_equal_nodes_are_taken_in_turn() -> None:
    cluster = snapshot(node("a"), node("b"))
    assert {decide(pod("p"), cluster, PLUGINS, turn).node for turn in range(2)} == {"a", "b"}


def test_reasons_are_counted_over_all_nodes() -> None:
    cluster = snapshot(node("a", cpu="1"), node("b", cpu="1"), node("c", unschedulable=True))
    decision = decide(pod("p", cpu="1500m"), cluster, PLUGINS)
    assert decision.node == ""
    assert decision.message == (
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )


def test_without_nodes_the_message_says_so() -> None:
    assert decide(pod("p"), Snapshot(), PLUGINS).message == "no nodes available to schedule pods"


def test_room_counts_what_is_placed_already_and_comes_back() -> None:
    cluster = snapshot(node("a", cpu="1"), a=[pod("x", cpu="600m")])
    assert decide(pod("p", cpu="500m"), cluster, PLUGINS).message.startswith(
        "0/1 nodes are available: 1 Insufficient cpu. "
    )
    cluster.remove("x")
    assert decide(pod("p", cpu="500m"), cluster, PLUGINS).node == "a"


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        ([], False),
        ([{"key": "gpu", "operator": "Exists"}], True),
        ([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}], True),
        ([{"key": "gpu", "value": "no"}], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}], False),
    ],
)
def test_taints_keep_pods_away_unless_tolerated(tolerations: list[dict[str, str]], fits: bool) -> None:
    cluster = snapshot(node("a", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]))
    decision = decide(pod("p", tolerations=tolerations), cluster, PLUGINS)
    assert (decision.node == "a") is fits
    if not fits:
        assert "1 node(s) had untolerated taint(s)." in decision.message


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["z1"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["z1"]}, False),
        ({"key": "disk", "operator": "DoesNotExist"}, True),
        ({"key": "cores", "operator": "Gt", "values": ["7"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["8"]}, False),
    ],
)
def test_node_affinity_operators(expression: dict[str, Any], fits: bool) -> None:
    cluster = snapshot(node("a", labels={"zone": "z1", "cores": "8"}))
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    assert (decide(pod("p", affinity=affinity), cluster, PLUGINS).node == "a") is fits


def test_match_fields_pick_one_node_by_name() -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    assert decide(pod("p", affinity=affinity), snapshot(node("a"), node("b")), PLUGINS).node == "b"


def test_preferred_affinity_outweighs_a_little_emptiness() -> None:
    preference = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": preference}]}
    }
    cluster = snapshot(node("a"), node("b", labels={"disk": "ssd"}), b=[pod("x")])
    assert decide(pod("p", affinity=affinity), cluster, PLUGINS).node == "b"


def test_host_ports_collide_on_the_same_node_only() -> None:
    port = [{"containerPort": 80, "hostPort": 80}]
    cluster = snapshot(node("a"), node("b"), a=[pod("x", ports=port)])
    assert decide(pod("p", ports=port), cluster, PLUGINS).node == "b"


def test_anti_affinity_holds_in_both_directions() -> None:
    cluster = snapshot(node("a"), node("b"), a=[pod("x", labels={"app": "w"}, affinity=anti({"app": "w"}))])
    assert decide(pod("p", labels={"app": "w"}), cluster, PLUGINS).node == "b"
    assert decide(pod("p", affinity=anti({"app": "w"})), cluster, PLUGINS).node == "b"


def test_affinity_goes_near_and_the_first_of_its_kind_goes_anywhere() -> None:
    cluster = snapshot(node("a"), node("b"), a=[pod("x", labels={"app": "db"})])
    assert decide(pod("p", affinity=near({"app": "db"})), cluster, PLUGINS).node == "a"
    own = pod("p", labels={"app": "w"}, affinity=near({"app": "w"}))
    assert decide(own, cluster, PLUGINS).node
    stranger = pod("p", affinity=near({"app": "w"}))
    assert "didn't match pod affinity rules" in decide(stranger, cluster, PLUGINS).message


def test_spread_keeps_the_skew() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "w"}},
    }
    labels = {"app": "w"}
    cluster = snapshot(
        node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}, cpu="1"), a=[pod("x", labels=labels)]
    )
    more = pod("p", labels=labels, topologySpreadConstraints=[constraint])
    assert decide(more, cluster, PLUGINS).node == "b"
    tall = pod("p", cpu="1500m", labels=labels, topologySpreadConstraints=[constraint])
    reasons = "1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints."
    assert decide(tall, cluster, PLUGINS).message.startswith(f"0/2 nodes are available: {reasons} ")


def test_init_containers_count_by_their_peak() -> None:
    init = [{"name": "i", "resources": {"requests": {"cpu": "3"}}}]
    assert PodInfo(
        {
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"initContainers": init, "containers": [{"resources": {"requests": {"cpu": "1"}}}]},
        }
    ).requests == {"cpu": 3000}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, "0/2 nodes are available: 2 No preemption victims found for incoming pod."),
        ({"cpu": "9"}, "0/2 nodes are available: 2 Preemption is not helpful for scheduling."),
        (
            {"priority": 5},
            "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not supported.",
        ),
        ({"priority": 5, "preemptionPolicy": "Never"}, "not eligible due to preemptionPolicy=Never."),
    ],
)
def test_the_message_says_whether_preemption_would_help(spec: dict[str, Any], told: str) -> None:
    cluster = snapshot(node("a"), node("b"), a=[pod("x", cpu="2")], b=[pod("y", cpu="2", priority=5)])
    message = decide(pod("p", **{"cpu": "1", **spec}), cluster, PLUGINS).message
    assert message == f"0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: {told}"


def test_nodes_without_the_label_are_the_last_choice_of_a_spread() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "w"}},
    }
    cluster = snapshot(node("a"), node("b", labels={"zone": "1"}), b=[pod("x", labels={"app": "w"})])
    more = pod("p", labels={"app": "w"}, topologySpreadConstraints=[constraint])
    assert decide(more, cluster, PLUGINS).node == "b"


def test_one_neighbour_must_meet_all_the_terms() -> None:
    both = [*near({"app": "db"})["podAffinity"].values(), *near({"tier": "back"})["podAffinity"].values()]
    terms = {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term for each in both for term in each]}
    }
    apart = [pod("x", labels={"app": "db"}), pod("y", labels={"tier": "back"})]
    wanted = pod("p", affinity=terms)
    assert not decide(wanted, snapshot(node("a"), a=apart), PLUGINS).node
    one = [pod("x", labels={"app": "db", "tier": "back"})]
    assert decide(wanted, snapshot(node("a"), a=one), PLUGINS).node == "a"
