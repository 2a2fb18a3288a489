"""How a change of a Deployment's size is shared by its ReplicaSets, how far each step of a rollout goes."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.rollout import DESIRED, MAXIMUM, Rollout

NOW = 1_767_225_600.0


def deployment(replicas: int, surge: Any = 0, unavailable: Any = 0) -> dict[str, Any]:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "strategy": strategy}, "status": {}}


def replica_set(age: int, size: int, desired: int, most: int, available: int | None = None) -> dict[str, Any]:
    """One of that many days; equal ages are told apart by nothing."""
    stamp = rfc3339(NOW - age * 86400)
    notes = {DESIRED: str(desired), MAXIMUM: str(most)}
    meta = {"name": f"web-{age}", "uid": f"{age}", "creationTimestamp": stamp, "annotations": notes}
    status = {"availableReplicas": size if available is None else available}
    return {"metadata": meta, "spec": {"replicas": size}, "status": status}


@pytest.mark.parametrize(
    ("before", "after", "new", "old", "expected"),
    [
        ((10, 0), (12, 0), 10, [], [12]),
        ((10, 0), (5, 0), 10, [], [5]),
        ((5, 0), (10, 0), 2, [3], [4, 6]),
        ((5, 0), (3, 0), 2, [3], [1, 2]),
        ((9, 0), (4, 0), 8, [1], [4, 0]),
        ((7, 0), (10, 0), 2, [3, 2], [3, 4, 3]),
        ((13, 0), (8, 0), 2, [8, 3], [1, 5, 2]),
        ((3, 0), (4, 0), 1, [1, 1], [2, 1, 1]),
        ((3, 0), (2, 0), 1, [1, 1], [1, 1, 0]),
        ((4, 0), (5, 0), None, [2, 2], [3, 2]),
        ((6, 0), (0, 0), 3, [2, 1], [0, 0, 0]),
        ((6, 0), (6, 0), 0, [0, 0], [6, 0, 0]),
        ((10, 2), (20, 2), 6, [6], [11, 11]),
        ((10, 3), (50, 6), 5, [8], [22, 34]),
        ((10, 0), (14, 0), None, [7, 3], [10, 4]),
    ],
)
def test_sizes_are_shared_in_proportion(
    before: tuple[int, int], after: tuple[int, int], new: int | None, old: list[int], expected: list[int]
) -> None:
    desired, most = before[0], before[0] + before[1]
    present = [] if new is None else [replica_set(0, new, desired, most)]
    earlier = [replica_set(age, size, desired, most) for age, size in enumerate(old, 1)]
    rollout = Rollout(deployment(*after), present[0] if present else None, earlier)
    rollout.resize()
    assert [each["spec"]["replicas"] for each in rollout.all] == expected
    assert all(each["metadata"]["annotations"][DESIRED] == str(after[0]) for each in rollout.active(rollout.changed))


def test_a_saturated_new_set_that_is_broken_leaves_the_old_ones_alone() -> None:
    sets = [replica_set(0, 2, 2, 3, available=0), replica_set(1, 1, 2, 3)]
    rollout = Rollout(deployment(2, 1, 1), sets[0], sets[1:])
    rollout.resize()
    assert [each["spec"]["replicas"] for each in rollout.all] == [2, 1]


def test_a_saturated_new_set_that_is_available_takes_all() -> None:
    sets = [replica_set(0, 2, 2, 3), replica_set(1, 1, 2, 3)]
    rollout = Rollout(deployment(2, 1, 1), sets[0], sets[1:])
    rollout.resize()
    assert [each["spec"]["replicas"] for each in rollout.all] == [2, 0]


@pytest.mark.parametrize(
    ("wanted", "surge", "new", "old", "grown"),
    [(10, 0, 0, 10, 0), (10, 2, 0, 10, 2), (10, 2, 0, 5, 7), (10, 2, 0, 0, 10), (10, 2, 2, 10, 2), (10, 2, 6, 6, 6)],
)
def test_a_new_set_grows_within_the_surge(wanted: int, surge: int, new: int, old: int, grown: int) -> None:
    sets = [replica_set(0, new, wanted, wanted), replica_set(1, old, wanted, wanted)]
    assert Rollout(deployment(wanted, surge, 1), sets[0], sets[1:]).size_of_new(new) == grown


@pytest.mark.parametrize(
    ("unavailable", "new", "new_available", "old", "old_available", "shrunk"),
    [
        (0, 0, 0, 10, 10, 10),
        (2, 0, 0, 10, 10, 8),
        (2, 0, 0, 10, 8, 8),
        (2, 0, 0, 10, 0, 8),
        (2, 5, 5, 5, 5, 3),
        (2, 5, 3, 5, 5, 5),
        (0, 10, 10, 10, 10, 0),
    ],
)
def test_old_sets_shrink_within_max_unavailable(
    unavailable: int, new: int, new_available: int, old: int, old_available: int, shrunk: int
) -> None:
    sets = [replica_set(0, new, 10, 10, new_available), replica_set(1, old, 10, 10, old_available)]
    rollout = Rollout(deployment(10, 10 - new if new < 10 else 1, unavailable), sets[0], sets[1:])
    rollout._scale_old(sets[0])
    assert rollout.old[0]["spec"]["replicas"] == shrunk
