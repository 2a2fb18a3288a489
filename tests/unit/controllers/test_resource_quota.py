"""What a quota's status becomes, given the objects in its namespace."""

from __future__ import annotations

from typing import Any

from tiphys.controllers.resource_quota import new_status, recount

NOW = 1_767_225_600.0
PODS = ("", "pods")


def pod(name: str, memory: str = "1Gi", **meta: Any) -> dict[str, Any]:
    container = {"name": "c", "resources": {"requests": {"memory": memory}}}
    return {"metadata": {"name": name, "namespace": "d", **meta}, "spec": {"containers": [container]}}


def quota(hard: dict[str, str], used: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": used or {}}}


def test_what_is_counted_starts_from_nothing_and_what_is_not_keeps_its_figure() -> None:
    held = quota({"pods": "5", "memory": "9Gi", "count/odd.example.com": "3", "secrets": "2"}, {"secrets": "1"})
    assert new_status(held, {PODS: [pod("a"), pod("b")]}, NOW) == {
        "hard": held["spec"]["hard"],
        "used": {"pods": "2", "memory": "2Gi", "secrets": "1"},
    }


def test_an_object_that_makes_no_sense_does_not_stop_the_counting() -> None:
    odd = [pod("x", memory="much"), {"metadata": {"name": "y"}}, {"metadata": {"name": "z"}, "spec": None}]
    assert new_status(quota({"memory": "9Gi"}), {PODS: [*odd, pod("a")]}, NOW)["used"] == {"memory": "1Gi"}


def test_it_is_counted_again_when_a_pod_should_have_ended() -> None:
    going = pod("a", deletionTimestamp="2026-01-01T00:00:10Z", deletionGracePeriodSeconds=30)
    over = pod("b", deletionTimestamp="2025-01-01T00:00:10Z", deletionGracePeriodSeconds=30)
    assert recount([going, over, pod("c")], NOW) == 41
    assert recount([], NOW) == 300
