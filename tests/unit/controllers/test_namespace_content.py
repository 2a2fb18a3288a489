"""What is told of a namespace that is being deleted."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.client.types import Resource
from tiphys.controllers.namespace_content import Remains, conditions_after, finalized, grace, problems

PODS = Resource("", "v1", "pods")
MAPS = Resource("", "v1", "configmaps")
THINGS = Resource("example.com", "v1", "things")
NOW = 1_767_225_600.0


def held(*finalizers: str) -> dict[str, Any]:
    return {"metadata": {"name": "x", "finalizers": list(finalizers)}}


def test_objects_with_finalizers_take_a_quarter_of_a_minute_supposedly() -> None:
    remains = Remains()
    remains.add("apps", MAPS, [held("a"), held("a", "b"), held()], 0)
    remains.add("apps", THINGS, [held("a")], 0)
    assert remains.estimate == 15
    assert problems(remains) == {
        "NamespaceContentRemaining": (
            "SomeResourcesRemain",
            "Some resources are remaining: configmaps. has 3 resource instances, "
            "things.example.com has 1 resource instances",
        ),
        "NamespaceFinalizersRemaining": (
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: a in 3 resource instances, "
            "b in 1 resource instances",
        ),
    }


def test_what_is_there_without_a_reason_is_a_failure() -> None:
    remains = Remains()
    remains.add("apps", PODS, [held()], 0)
    remains.add("apps", THINGS, [held()], 0)
    assert (remains.estimate, remains.nothing) == (0, False)
    assert problems(remains)["NamespaceDeletionContentFailure"] == (
        "ContentDeletionFailed",
        "Failed to delete all resource types, 2 remaining: "
        "unexpected items still remain in namespace: apps for gvr: /v1, Resource=pods, "
        "unexpected items still remain in namespace: apps for gvr: example.com/v1, Resource=things",
    )


def test_while_pods_are_waited_for_what_remains_is_not_told() -> None:
    remains = Remains()
    remains.add("apps", PODS, [held("a")], 30)
    remains.waiting = True
    assert remains.estimate == 30
    assert problems(remains) == {}


def test_pods_that_end_count_with_their_time_until_it_is_over() -> None:
    pods: list[dict[str, Any]] = [
        {"spec": {"terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}},
        {"spec": {"terminationGracePeriodSeconds": 300}, "status": {"phase": "Succeeded"}},
        {"spec": {}},
    ]
    assert grace(pods, 29.0) == 30
    assert grace(pods, 30.0) == 0
    assert grace([], 0.0) == 0


def test_conditions_keep_their_place_and_their_time_while_their_value_stays() -> None:
    remains = Remains()
    first = conditions_after([{"type": "Mine", "status": "True"}], remains, NOW)
    assert [each["type"] for each in first] == [
        "Mine",
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceContentRemaining",
        "NamespaceFinalizersRemaining",
    ]
    remains.add("apps", MAPS, [held("a")], 0)
    second = conditions_after(first, remains, NOW + 60)
    changed = [each["type"] for one, each in zip(first, second, strict=True) if one != each]
    assert changed == ["NamespaceContentRemaining", "NamespaceFinalizersRemaining"]
    assert {each["lastTransitionTime"] for each in second[1:4]} == {"2026-01-01T00:00:00Z"}
    assert {each["lastTransitionTime"] for each in second[4:]} == {"2026-01-01T00:01:00Z"}
    assert conditions_after(second, remains, NOW + 120) == second


@pytest.mark.parametrize(
    ("present", "left"), [(["kubernetes"], []), (["z", "kubernetes", "a", "a"], ["a", "z"]), (["a"], ["a"])]
)
def test_only_our_finalizer_is_taken(present: list[str], left: list[str]) -> None:
    assert finalized({"metadata": {}, "spec": {"finalizers": present}})["spec"]["finalizers"] == left
