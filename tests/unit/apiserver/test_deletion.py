"""Deletion as a decision: at once, graceful, or waiting for finalizers."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.kinds.base import Kind
from tiphys.apiserver.deletion import Plan, check_preconditions, finished, plan
from tiphys.base.clock import rfc3339
from tiphys.base.errors import Conflict

NOW = 1_000_000.0


class Plain(Kind):
    group, plural, kind = "apps", "things", "Thing"


class Graceful(Plain):
    def delete_grace(self, obj: Any, wanted: int | None) -> int | None:
        return 30 if wanted is None else wanted


def thing(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "uid": "u", "resourceVersion": "7", **metadata}}


def test_an_object_without_ties_goes_at_once() -> None:
    assert plan(Plain(), thing(), {}, NOW) == Plan(None, gone=True)


def test_finalizers_keep_an_object_that_is_marked_as_deleted() -> None:
    decision = plan(Plain(), thing(finalizers=["a/b"], generation=3), {}, NOW)
    assert decision.marked is not None
    assert not decision.gone
    metadata = decision.marked["metadata"]
    assert metadata["deletionTimestamp"] == rfc3339(NOW)
    assert metadata["deletionGracePeriodSeconds"] == 0
    assert metadata["generation"] == 4


@pytest.mark.parametrize(
    ("policy", "finalizers"), [("Orphan", ["orphan"]), ("Foreground", ["foregroundDeletion"]), ("Background", None)]
)
def test_a_propagation_policy_becomes_a_finalizer(policy: str, finalizers: list[str] | None) -> None:
    decision = plan(Plain(), thing(), {"propagationPolicy": policy}, NOW)
    assert decision.gone is (finalizers is None)
    assert (decision.marked or thing())["metadata"].get("finalizers") == finalizers


def test_graceful_deletion_marks_first_and_removes_on_zero() -> None:
    first = plan(Graceful(), thing(), {}, NOW)
    assert first.marked is not None
    assert not first.gone
    metadata = first.marked["metadata"]
    assert (metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"]) == (rfc3339(NOW + 30), 30)
    again = plan(Graceful(), first.marked, {}, NOW + 1)
    assert again == Plan(None, gone=False)
    last = plan(Graceful(), first.marked, {"gracePeriodSeconds": 0}, NOW + 2)
    assert last.gone


def test_a_grace_period_can_only_be_shortened() -> None:
    marked = plan(Graceful(), thing(), {}, NOW).marked
    assert marked is not None
    assert plan(Graceful(), marked, {"gracePeriodSeconds": 60}, NOW) == Plan(None, gone=False)
    shorter = plan(Graceful(), marked, {"gracePeriodSeconds": 5}, NOW + 1).marked
    assert shorter is not None
    assert shorter["metadata"]["deletionTimestamp"] == rfc3339(NOW + 5)
    late = plan(Graceful(), marked, {"gracePeriodSeconds": 5}, NOW + 20).marked
    assert late is not None
    assert late["metadata"]["deletionGracePeriodSeconds"] == 1


def test_preconditions_name_both_values() -> None:
    with pytest.raises(Conflict) as refused:
        check_preconditions(Plain(), thing(), {"preconditions": {"uid": "other"}})
    assert refused.value.message == (
        'Operation cannot be fulfilled on Thing.apps "x": the UID in the precondition (other) does not match the UID '
        "in record (u). The object might have been deleted and then recreated"
    )


def test_an_object_is_finished_when_nothing_holds_it_any_more() -> None:
    assert not finished(thing())
    assert not finished(thing(deletionTimestamp="t", finalizers=["a"]))
    assert not finished(thing(deletionTimestamp="t", deletionGracePeriodSeconds=30))
    assert finished(thing(deletionTimestamp="t", deletionGracePeriodSeconds=0))
