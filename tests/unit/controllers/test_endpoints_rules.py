from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.endpoints import truncated
from tiphys.controllers.slice_tracker import SliceTracker
from tiphys.controllers.subsets import repack
from tiphys.controllers.trigger_times import TRIGGER_TIME, TriggerTimes, stamped


def addresses(count: int) -> list[dict[str, Any]]:
    return [{"ip": f"10.{number >> 8}.{number & 255}.1"} for number in range(count)]


@pytest.mark.parametrize(
    ("ready", "unready", "kept", "kept_unready"),
    [
        ((300, 600), (50, 50), (300, 600), (50, 50)),
        ((300, 900), (50, 50), (250, 750), (0, 0)),
        ((100, 200), (300, 900), (100, 200), (175, 525)),
        ((0, 0, 0), (999, 1, 1), (0, 0, 0), (999, 1, 0)),
    ],
)
def test_what_does_not_fit_is_cut_in_proportion(
    ready: tuple[int, ...], unready: tuple[int, ...], kept: tuple[int, ...], kept_unready: tuple[int, ...]
) -> None:
    subsets = [
        {"addresses": addresses(one), "notReadyAddresses": addresses(other)}
        for one, other in zip(ready, unready, strict=True)
    ]
    found, over = truncated(subsets)
    assert over is (sum(ready) + sum(unready) > 1000)
    assert tuple(len(each.get("addresses") or ()) for each in found) == kept
    assert tuple(len(each.get("notReadyAddresses") or ()) for each in found) == kept_unready


def test_subsets_are_repacked_by_what_offers_the_same_ports() -> None:
    one, two = {"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}
    found = repack(
        [
            {"addresses": [one], "ports": [{"name": "a", "port": 80}]},
            {"addresses": [two], "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
            {"addresses": [one], "ports": [{"name": "b", "port": 81}]},
            {"notReadyAddresses": [two], "ports": [{"name": "c", "port": 82}]},
        ]
    )
    tcp = {"protocol": "TCP"}
    assert found == [
        {"addresses": [one, two], "ports": [{"name": "a", "port": 80, **tcp}, {"name": "b", "port": 81, **tcp}]},
        {"notReadyAddresses": [two], "ports": [{"name": "c", "port": 82, **tcp}]},
    ]
    assert repack(found) == found


def test_not_ready_wins_and_addresses_of_different_pods_stay_apart() -> None:
    shared = [{"ip": "10.0.0.1", "targetRef": {"uid": uid}} for uid in ("a", "b")]
    (found,) = repack([{"addresses": shared}, {"notReadyAddresses": shared[:1]}])
    assert found == {"addresses": shared[1:], "notReadyAddresses": shared[:1]}


def pod(name: str, changed: float) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(changed)}
    return {"metadata": {"name": name}, "status": {"conditions": [ready]}}


def test_the_trigger_is_the_earliest_change_since_the_last_look() -> None:
    times, service = TriggerTimes(), {"metadata": {"name": "web", "creationTimestamp": rfc3339(100.0)}}
    assert times.note("d/web", service, [pod("a", 50.0)]) == 100.0
    assert times.note("d/web", service, [pod("a", 50.0)]) == 0.0
    assert times.note("d/web", service, [pod("a", 220.0), pod("b", 210.0)]) == 210.0
    assert times.note("d/web", service, [pod("b", 210.0)]) == 0.0
    assert times.note("d/web", {"metadata": {"name": "web", "creationTimestamp": rfc3339(300.0)}}, []) == 300.0
    times.forget("d/web")
    assert times.note("d/web", service, []) == 100.0


def test_a_write_without_a_new_trigger_loses_the_old_one() -> None:
    written = stamped({"metadata": {"name": "x", "annotations": {"note": "1"}}}, 100.0)
    assert written["metadata"]["annotations"] == {"note": "1", TRIGGER_TIME: "1970-01-01T00:01:40Z"}
    assert stamped(written, 0.0)["metadata"]["annotations"] == {"note": "1"}
    assert "annotations" not in stamped({"metadata": {"name": "x"}}, 0.0)["metadata"]


def held(uid: str, generation: int, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": uid, "uid": uid, "generation": generation, **metadata}}


def test_the_cache_is_behind_until_it_shows_what_was_written_and_deleted() -> None:
    tracker = SliceTracker()
    assert not tracker.behind("k", [held("a", 1)])
    tracker.wrote("k", held("a", 2))
    tracker.wrote("k", held("b", 1))
    assert tracker.behind("k", [held("a", 1), held("b", 1)])
    assert tracker.behind("k", [held("a", 2)])
    assert not tracker.behind("k", [held("a", 3), held("b", 1)])
    tracker.deleted("k", held("b", 1))
    assert tracker.behind("k", [held("a", 2), held("b", 1)])
    assert not tracker.behind("k", [held("a", 2), held("b", 1, deletionTimestamp="2026-01-01T00:00:00Z")])
    assert not tracker.removed_by_others("k", held("b", 1))
    assert tracker.removed_by_others("k", held("a", 2))
    assert not tracker.behind("k", [])


def test_changes_of_others_are_told_from_our_own() -> None:
    tracker = SliceTracker()
    assert tracker.changed_by_others("k", held("a", 1))
    tracker.wrote("k", held("a", 1))
    assert not tracker.changed_by_others("k", held("a", 1))
    assert tracker.changed_by_others("k", held("a", 2))
    tracker.forget("k")
    assert tracker.changed_by_others("k", held("a", 1))
