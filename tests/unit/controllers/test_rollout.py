from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.deployment import decide
from tiphys.controllers.rollout import (
    DESIRED,
    MAXIMUM,
    REVISION,
    ROLLBACK,
    Rollout,
    max_surge,
    max_unavailable,
)

NOW = 1_767_225_600.0


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(
    replicas: int = 10, image: str = "b", surge: Any = 3, unavailable: Any = 2, **spec: Any
) -> dict[str, Any]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "strategy": strategy,
            **spec,
        },
    }


def replica_set(
    image: str, replicas: int, available: int | None = None, noted: int = 10, most: int = 13
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"web-{image}",
            "uid": image,
            "creationTimestamp": rfc3339(NOW - 1000 + ord(image[0])),
            "annotations": {DESIRED: str(noted), MAXIMUM: str(most), REVISION: str(ord(image[0]) - 96)},
        },
        "spec": {"replicas": replicas, "template": template(image)},
        "status": {"replicas": replicas, "availableReplicas": replicas if available is None else available},
    }


def sizes(sets: Any) -> Mapping[str, int]:
    return {each["metadata"]["uid"]: each["spec"]["replicas"] for each in sets}


def step(wanted: dict[str, Any], *sets: dict[str, Any]) -> Mapping[str, int]:
    """Sizes after one decision; the new ReplicaSet is "new" if it is made."""
    decision = decide(wanted, sets, lambda new: False, NOW)
    changed = {**sizes(sets), **sizes(decision.write)}
    return {**changed, "new": decision.create["spec"]["replicas"]} if decision.create else changed


@pytest.mark.parametrize(
    ("value", "replicas", "surge", "unavailable"),
    [("25%", 4, 1, 1), ("25%", 10, 3, 2), ("25%", 1, 1, 0), (0, 5, 0, 1), ("100%", 3, 3, 3), (7, 3, 7, 3)],
)
def test_bounds(value: Any, replicas: int, surge: int, unavailable: int) -> None:
    wanted = deployment(replicas, surge=value, unavailable=value)
    assert (max_surge(wanted), max_unavailable(wanted)) == (surge, unavailable)


@pytest.mark.parametrize(
    ("sets", "after"),
    [
        ([], {"new": 10}),
        ([replica_set("a", 10)], {"a": 8, "new": 3}),
        ([replica_set("a", 8), replica_set("b", 3, 0)], {"a": 8, "b": 5}),
        ([replica_set("a", 8), replica_set("b", 5, 0)], {"a": 8, "b": 5}),
        ([replica_set("a", 8), replica_set("b", 5, 5)], {"a": 3, "b": 5}),
        ([replica_set("a", 3), replica_set("b", 5, 5)], {"a": 3, "b": 10}),
        ([replica_set("a", 3), replica_set("b", 10, 10)], {"a": 0, "b": 10}),
        ([replica_set("a", 8, 5), replica_set("b", 5, 0)], {"a": 8, "b": 5}),
        ([replica_set("a", 8, 5), replica_set("b", 5, 3)], {"a": 5, "b": 5}),
    ],
)
def test_a_rolling_update_goes_up_then_down_within_its_bounds(sets: list[Any], after: dict[str, int]) -> None:
    assert step(deployment(), *sets) == after


def test_rolling_over_a_crashing_revision_drops_its_broken_pods_first() -> None:
    assert step(deployment(image="c"), replica_set("a", 8), replica_set("b", 5, 0)) == {"a": 8, "b": 0, "new": 0}


@pytest.mark.parametrize(
    ("replicas", "sets", "after"),
    [
        (20, [replica_set("a", 10)], {"a": 20}),
        (5, [replica_set("a", 10)], {"a": 5}),
        (20, [replica_set("a", 8), replica_set("b", 5, 0)], {"a": 14, "b": 9}),
        (5, [replica_set("a", 8), replica_set("b", 5, 0)], {"a": 5, "b": 3}),
        (0, [replica_set("a", 8), replica_set("b", 5, 0)], {"a": 0, "b": 0}),
    ],
)
def test_scaling_amid_a_rollout_keeps_proportions(replicas: int, sets: list[Any], after: dict[str, int]) -> None:
    assert step(deployment(replicas), *sets) == after


def test_annotations_follow_the_deployment_and_the_revision_counts_on() -> None:
    wanted = deployment(10, "a")
    wanted["metadata"]["annotations"] = {"kubernetes.io/change-cause": "why", REVISION: "2"}
    decision = decide(wanted, [replica_set("a", 10), replica_set("b", 0)], lambda new: False, NOW)
    (written,) = decision.write
    notes = written["metadata"]["annotations"]
    assert notes["kubernetes.io/change-cause"] == "why"
    assert notes[REVISION] == "3"
    assert notes["deployment.kubernetes.io/revision-history"] == "1"
    assert decision.revision == "3"


def test_recreate_waits_for_the_last_old_pod() -> None:
    wanted = deployment(3, strategy={"type": "Recreate"})
    running = replica_set("a", 3, noted=3, most=3)
    stopped = {**replica_set("a", 0), "status": {}}
    assert step(wanted, running) == {"a": 0}
    assert decide(wanted, [stopped], lambda new: True, NOW).create is None
    made = decide(wanted, [stopped], lambda new: False, NOW).create
    assert made is not None
    assert made["spec"]["replicas"] == 3


def test_only_idle_revisions_beyond_the_limit_are_removable() -> None:
    old = [replica_set(image, 0) for image in "acde"]
    old[1]["status"]["replicas"] = 1
    rollout = Rollout(deployment(10, revisionHistoryLimit=1), replica_set("b", 10), old)
    assert [each["metadata"]["uid"] for each in rollout.removable()] == ["a", "d"]


def test_a_status_of_before_a_scale_down_stops_further_ones() -> None:
    sets = [replica_set("a", 3, available=8), replica_set("b", 5), replica_set("c", 5)]
    assert step(deployment(image="c"), *sets) == {"a": 3, "b": 5, "c": 5}


def test_equal_sizes_are_told_apart_by_age_when_they_share() -> None:
    sets = [replica_set("a", 4, noted=8, most=9), replica_set("b", 4, noted=8, most=9)]
    assert step(deployment(replicas=9, image="b", surge=0, unavailable=2), *sets) == {"a": 4, "b": 5}
    assert step(deployment(replicas=7, image="b", surge=0, unavailable=2), *sets) == {"a": 3, "b": 4}


@pytest.mark.parametrize("text", ["", "many", "²", "1e3", "9" * 40, "-4"])
def test_numbers_that_somebody_made_unreadable_stop_nothing(text: str) -> None:
    old = replica_set("a", 10)
    old["metadata"]["annotations"] = {DESIRED: text, MAXIMUM: text, REVISION: text}
    assert step(deployment(), old) == {"a": 8, "new": 3}
    assert step(deployment(image="a"), old) == {"a": 10}


def test_a_replica_set_that_somebody_else_scaled_learns_why_it_has_its_size() -> None:
    decision = decide(deployment(replicas=5, image="a"), [replica_set("a", 5, noted=3)], lambda new: False, NOW)
    assert decision.write[0]["metadata"]["annotations"][DESIRED] == "5"
    assert not decision.events


def asking(revision: str, image: str = "c") -> dict[str, Any]:
    wanted = deployment(image=image)
    wanted["metadata"]["annotations"] = {ROLLBACK: revision, "note": "of now", REVISION: "3"}
    return wanted


@pytest.mark.parametrize(("revision", "image"), [("1", "a"), ("0", "b"), ("2", "b")])
def test_an_old_client_may_ask_to_go_back(revision: str, image: str) -> None:
    sets = [replica_set("a", 0), replica_set("b", 0), replica_set("c", 10)]
    sets["abc".index(image)]["metadata"]["annotations"]["note"] = "of then"
    made = decide(asking(revision), sets, lambda new: False, NOW).rollback
    assert made is not None
    assert made.deployment["spec"]["template"] == template(image)
    assert made.deployment["metadata"]["annotations"] == {"note": "of then", REVISION: "3"}
    shown = {"a": 1, "b": 2}[image]
    assert (made.type, made.reason) == ("Normal", "DeploymentRollback")
    assert made.message == f'Rolled back deployment "web" to revision {shown}'


@pytest.mark.parametrize(
    ("revision", "reason", "message"),
    [
        ("7", "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to."),
        (
            "3",
            "DeploymentRollbackTemplateUnchanged",
            'The rollback revision contains the same template as current deployment "web"',
        ),
    ],
)
def test_what_cannot_be_gone_back_to_is_told_and_forgotten(revision: str, reason: str, message: str) -> None:
    sets = [replica_set("a", 0), replica_set("b", 0), replica_set("c", 10)]
    made = decide(asking(revision), sets, lambda new: False, NOW).rollback
    assert made is not None
    assert (made.type, made.reason, made.message) == ("Warning", reason, message)
    assert made.deployment["spec"] == asking("0")["spec"]
    assert ROLLBACK not in made.deployment["metadata"]["annotations"]


def test_a_lone_revision_has_none_before_it() -> None:
    made = decide(asking("0"), [replica_set("c", 10)], lambda new: False, NOW).rollback
    assert made is not None
    assert made.message == "Unable to find last revision."
