from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers import disruption_state as state

NOW = 1_767_225_600.0


def budget(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": "b", "namespace": "default", "generation": 3}
    return {"metadata": meta, "spec": spec, "status": status or {}}


def pod(name: str, ready: bool = True, **meta: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"name": name, **meta}, "status": {"phase": "Running", "conditions": conditions}}


@pytest.mark.parametrize(
    ("spec", "expected", "desired"),
    [
        ({"minAvailable": 2}, 5, 2),
        ({"minAvailable": "50%"}, 5, 3),
        ({"maxUnavailable": 1}, 5, 4),
        ({"maxUnavailable": "10%"}, 5, 4),
        ({"maxUnavailable": 7}, 5, 0),
        ({}, 0, 0),
    ],
)
def test_how_many_have_to_be_healthy(spec: dict[str, Any], expected: int, desired: int) -> None:
    assert state.desired(budget(**spec), expected) == desired


def test_only_shares_and_max_unavailable_ask_what_controllers_want() -> None:
    asked: list[dict[str, Any]] = [{"minAvailable": 2}, {"minAvailable": "50%"}, {"maxUnavailable": 1}]
    assert [state.counts_controllers(budget(**each)) for each in asked] == [False, True, True]


def test_a_pod_that_was_evicted_counts_as_gone_until_its_deletion_is_overdue() -> None:
    noted = {"fresh": rfc3339(NOW - 30), "late": rfc3339(NOW - 121), "gone": rfc3339(NOW), "never": rfc3339(NOW)}
    pods = [pod("fresh"), pod("late"), pod("other"), pod("gone", deletionTimestamp=rfc3339(NOW))]
    found = state.disrupted(budget({"disruptedPods": noted}), pods, NOW)
    assert found.pods == {"fresh": noted["fresh"]}
    assert [each["metadata"]["name"] for each in found.overdue] == ["late"]
    assert found.recheck == 90
    assert state.healthy(pods, found.pods, NOW) == 2


def test_the_status_allows_what_is_above_the_wanted_number() -> None:
    pods = [pod("a"), pod("b"), pod("c"), pod("d", ready=False)]
    status = state.new_status(budget(minAvailable=2), pods, 4, {}, NOW)
    assert status == {
        "disruptionsAllowed": 1,
        "currentHealthy": 3,
        "desiredHealthy": 2,
        "expectedPods": 4,
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "DisruptionAllowed",
                "status": "True",
                "observedGeneration": 3,
                "lastTransitionTime": rfc3339(NOW),
                "reason": "SufficientPods",
                "message": "",
            }
        ],
    }
    again = state.new_status(budget(status, minAvailable=2), pods, 4, {}, NOW + 60)
    assert again == status


def test_nothing_is_allowed_when_nothing_is_expected_or_known() -> None:
    assert state.new_status(budget(minAvailable=0), [], 0, {}, NOW)["disruptionsAllowed"] == 0
    failed = state.failed_status(budget({"disruptionsAllowed": 2, "currentHealthy": 4}), "why", NOW)
    assert (failed["disruptionsAllowed"], failed["currentHealthy"]) == (0, 4)
    assert (failed["conditions"][0]["reason"], failed["conditions"][0]["message"]) == ("SyncFailed", "why")


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({}, 60.0),
        ({"lastTransitionTime": rfc3339(NOW - 300)}, 0.0),
        ({"status": "False"}, None),
        ({"reason": "TerminationByKubelet"}, None),
    ],
)
def test_a_stale_disruption_target_is_taken_back(change: dict[str, str], after: float | None) -> None:
    target = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": rfc3339(NOW - 60), **change}
    victim = pod("a", generation=2)
    victim["status"]["conditions"].append(target)
    assert state.stale_after(victim, NOW) == after
    cleared = state.without_target(victim, NOW)["conditions"][1]
    assert (cleared["status"], cleared["observedGeneration"]) == ("False", 2)


def test_selectors_are_shown_as_upstream_shows_them() -> None:
    expression = {"key": "k", "operator": "In", "values": ["a", "b"]}
    text = state.selector_text({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [expression]})
    assert text == (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{"
        "LabelSelectorRequirement{Key:k,Operator:In,Values:[a b],},},}"
    )
