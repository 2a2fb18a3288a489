"""Which images go, and how pods are grouped when the node shuts down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.collecting.image_policy import ImagePolicy, ImageRecords, expired, is_old_enough, shortage, to_free
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.shutdown.groups import grouped, periods, total
from tiphys.runtime.types import Image, ImageConfig

GIB = 1 << 30


def image(name: str, size: int = 1, pinned: bool = False) -> Image:
    return Image(name, (f"{name}:latest",), (), size, ImageConfig(), pinned)


def test_the_longest_unused_image_goes_first() -> None:
    records = ImageRecords()
    images = [image("never"), image("once"), image("now"), image("pinned", pinned=True)]
    records.observe(images, {"once", "now"}, 10)
    records.observe(images, {"now"}, 20)
    assert [one.id for one in records.candidates({"now"})] == ["never", "once"]


def test_an_image_that_came_later_goes_later() -> None:
    records = ImageRecords()
    records.observe([image("old")], (), 10)
    records.observe([image("old"), image("new")], (), 20)
    assert [one.id for one in records.candidates(())] == ["old", "new"]


def test_an_image_that_went_and_came_back_is_new() -> None:
    records = ImageRecords()
    records.observe([image("one")], (), 0)
    records.observe([], (), 100)
    records.observe([image("one")], (), 200)
    policy = ImagePolicy(minimum_age=120)
    assert not is_old_enough(records.candidates(())[0], policy, 310)
    assert is_old_enough(records.candidates(())[0], policy, 320)


def test_too_old_counts_from_the_last_use_but_not_before_the_kubelet_has_watched_for_long_enough() -> None:
    records = ImageRecords()
    records.observe([image("one")], {"one"}, 0)
    record = records.candidates(())[0]
    policy = ImagePolicy(maximum_age=3600)
    assert not expired(record, policy, now=3600, began=0)
    assert expired(record, policy, now=3601, began=0)
    assert not expired(record, policy, now=3601, began=100)
    assert not expired(record, ImagePolicy(), now=1e9, began=0)


@pytest.mark.parametrize(
    ("available", "used", "wanted"),
    [(20, 80, 0), (16, 84, 0), (15, 85, 5), (0, 100, 20), (200, 0, 0)],
)
def test_above_the_high_threshold_enough_goes_to_reach_the_low_one(available: int, used: int, wanted: int) -> None:
    assert to_free(ImagePolicy(high=85, low=80), 100, available) == (used, wanted)


def test_what_was_not_enough_is_said_as_upstream_does() -> None:
    assert shortage(90, 100 * GIB, 5) == (
        "Insufficient free disk space on the node's image filesystem (90% of 100.0 GiB used). "
        "Failed to free sufficient space by deleting unused images (freed 5 bytes). "
        "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )
    assert "(1% of 2.5 TiB used)" in shortage(1, 2560 * GIB, 0)


def test_collection_is_off_at_a_hundred_percent_without_an_age() -> None:
    assert not ImagePolicy(high=100).enabled
    assert ImagePolicy(high=100, maximum_age=60).enabled


def config(**given: Any) -> KubeletConfig:
    return KubeletConfig(node_name="n", root_dir=Path("/nowhere"), **given)


def pod(name: str, priority: int | None = None, grace: int | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": []}
    if priority is not None:
        spec["priority"] = priority
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    return {"metadata": {"name": name, "uid": name}, "spec": spec}


def names(given: KubeletConfig, *pods: dict[str, Any]) -> list[tuple[int, list[str]]]:
    return [(group.seconds, [one["metadata"]["name"] for one in group.pods]) for group in grouped(given, pods)]


def test_critical_pods_end_last_within_their_part_of_the_time() -> None:
    given = config(shutdown_grace=30, shutdown_grace_critical=10)
    assert periods(given) == [(0, 20), (2_000_000_000, 10)]
    assert total(given) == 30
    found = names(given, pod("critical", 2_000_000_000), pod("plain"), pod("odd", -5), pod("high", 1_000_000))
    assert found == [(20, ["plain", "odd", "high"]), (10, ["critical"])]


def test_without_a_period_nothing_is_graceful() -> None:
    assert periods(config()) == []
    assert periods(config(shutdown_grace=10, shutdown_grace_critical=20)) == []


def test_groups_by_priority_take_those_between_into_the_lower_one() -> None:
    given = config(shutdown_grace_by_priority=((100_000, 10), (0, 60), (10_000, 180), (1_000, 120)))
    pods = [pod("p100", 100_000), pod("p50", 50_000), pod("p10", 10_000), pod("p1", 999), pod("neg", -1)]
    assert names(given, *pods) == [(60, ["p1", "neg"]), (180, ["p50", "p10"]), (10, ["p100"])]
    assert total(given) == 370


def test_a_pod_has_its_own_grace_when_that_is_shorter() -> None:
    given = config(shutdown_grace=30, shutdown_grace_critical=10)
    group = grouped(given, [pod("x")])[0]
    assert [group.grace(pod("x", grace=seconds)) for seconds in (5, 20, 600, None)] == [5, 20, 20, 20]
