"""Which pods go first when there are too many: each rule alone, then the order of the rules."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.pods import DELETION_COST, least_advanced, ranked_for_deletion
from tiphys.controllers.replicaset import decide

NOW = 1_767_225_600.0


def pod(name: str, **facts: Any) -> dict[str, Any]:
    """Facts: node, phase, ready (seconds for how long, None: not), cost, restarts, sidecar restarts, age, uid."""
    ready = facts.get("ready", 1000)
    conditions = [] if ready is None else [{"type": "Ready", "status": "True"}]
    if ready:
        conditions[0]["lastTransitionTime"] = rfc3339(NOW - ready)
    sidecars = [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]
    initial = [{"name": "s", "restartCount": facts.get("sidecar", 0)}, {"name": "i", "restartCount": 99}]
    meta: dict[str, Any] = {"name": name, "namespace": "ns", "uid": facts.get("uid", name)}
    if "cost" in facts:
        meta["annotations"] = {DELETION_COST: facts["cost"]}
    if facts.get("age") != 0:
        meta["creationTimestamp"] = rfc3339(NOW - facts.get("age", 5000))
    return {
        "metadata": meta,
        "spec": {"nodeName": facts.get("node", "n"), "initContainers": sidecars},
        "status": {
            "phase": facts.get("phase", "Running"),
            "conditions": conditions,
            "containerStatuses": [{"name": "c", "restartCount": facts.get("restarts", 0)}],
            "initContainerStatuses": initial,
        },
    }


RULES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"node": ""}, {}),
    ({"phase": "Pending"}, {"phase": "Running"}),
    ({"phase": "Unknown"}, {"phase": "Running"}),
    ({"phase": "Pending"}, {"phase": "Unknown"}),
    ({"ready": None}, {}),
    ({"ready": 10}, {"ready": 1000}),
    ({"ready": 0}, {"ready": 10}),
    ({"restarts": 3}, {"restarts": 2}),
    ({"sidecar": 3}, {"sidecar": 2}),
    ({"age": 10}, {"age": 5000}),
    ({"age": 0}, {"age": 10}),
]


def first(ordered: list[Any]) -> str:
    return str(ordered[0]["metadata"]["name"])


@pytest.mark.parametrize(("worse", "better"), RULES)
def test_one_difference_decides(worse: dict[str, Any], better: dict[str, Any]) -> None:
    pods = [pod("better", **better), pod("worse", **worse)]
    assert first(ranked_for_deletion(pods, (), NOW)) == first(least_advanced(pods)) == "worse"


@pytest.mark.parametrize(
    ("cost", "other", "cheaper"),
    [("-10", "0", "a"), ("5", "10", "a"), ("007", "1", "a"), ("+3", "1", "a"), ("x", "-1", "b"), ("9" * 12, "1", "a")],
)
def test_costs_count_where_they_are_numbers(cost: str, other: str, cheaper: str) -> None:
    pods = [pod("b", cost=other), pod("a", cost=cost)]
    assert first(ranked_for_deletion(pods, (), NOW)) == cheaper


def test_readiness_outranks_cost_and_cost_outranks_company() -> None:
    alone, together = pod("alone", node="x", cost="1"), pod("together", node="y", cost="2")
    related = [together, pod("third", node="y")]
    assert first(ranked_for_deletion([together, alone], related, NOW)) == "alone"
    unready = pod("unready", ready=None, cost="100", node="x")
    assert first(ranked_for_deletion([together, alone, unready], related, NOW)) == "unready"


def test_pods_that_share_their_node_with_many_of_the_application_go_first() -> None:
    crowded, alone = pod("crowded", node="x", ready=5000), pod("alone", node="y", ready=10)
    related = [crowded, alone, pod("other", node="x"), pod("done", node="y", phase="Succeeded")]
    assert first(ranked_for_deletion([alone, crowded], related, NOW)) == "crowded"
    assert first(ranked_for_deletion([alone, crowded], (), NOW)) == "alone"


def test_ages_of_one_magnitude_are_alike_and_uids_decide() -> None:
    pods = [pod("older", ready=1010, uid="a"), pod("younger", ready=1000, uid="b")]
    assert first(ranked_for_deletion(pods, (), NOW)) == "older"
    assert first(least_advanced(pods)) == "younger"


def test_the_order_does_not_depend_on_where_it_starts() -> None:
    chance = random.Random(1)
    pods = [
        pod(
            f"p{number}",
            ready=chance.choice([None, 1, 100, 5000]),
            cost=str(chance.randint(-2, 2)),
            node=node,
            age=number + 1,
        )
        for number, node in enumerate(chance.choices(["", "x", "y"], k=60))
    ]
    ordered = ranked_for_deletion(pods, pods, NOW)
    for _ in range(5):
        assert ranked_for_deletion(chance.sample(pods, 60), pods, NOW) == ordered


def test_a_replica_set_deletes_no_more_than_the_surplus() -> None:
    pods = [pod("a"), pod("b", ready=None), pod("c")]
    chosen = decide({"spec": {"replicas": 2}}, pods, pods, NOW)
    assert [each["metadata"]["name"] for each in chosen.delete] == ["b"]
    assert len(decide({"spec": {"replicas": 0}}, pods, pods, NOW).delete) == 3
    assert decide({"spec": {"replicas": 5}}, pods, pods, NOW).create == 2
    assert decide({"spec": {}}, pods[:1], pods, NOW) == decide({"spec": {"replicas": 0}}, [], [], NOW)
