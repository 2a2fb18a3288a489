"""Rates from two looks at a kubelet."""

from __future__ import annotations

from tiphys.metricsserver.points import Look, Point, Use, base_of, between, container_use, node_use, parse
from tiphys.metricsserver.server import duration

PAGE = """# HELP container_cpu_usage_seconds_total Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="c",namespace="default",pod="web"} 12.5 1000500
container_memory_working_set_bytes{container="c",namespace="default",pod="web"} 4096 1000500
container_start_time_seconds{container="c",namespace="default",pod="web"} 990.25
pod_cpu_usage_seconds_total{namespace="default",pod="web"} 13 1000500
node_cpu_usage_seconds_total 77 1000400
node_memory_working_set_bytes 8192 1000400
strange line
other{x="y"} notanumber
"""
KEY = ("default", "web", "c")


def test_a_page_is_read() -> None:
    look = parse(PAGE, 5.0)
    assert look.containers == {KEY: Point(1000.5, 12.5, 4096, 990.25)}
    assert look.node == Point(1000.4, 77, 8192)
    assert parse("", 1.0) == Look(1.0)


def test_the_newest_look_that_is_old_enough_is_compared_with() -> None:
    looks = [Look(at) for at in (0.0, 40.0, 50.0, 58.0)]
    assert base_of(looks, Look(60.0)) == Look(50.0)
    assert base_of(looks[3:], Look(60.0)) == Look(58.0)
    assert base_of(looks, Look(58.1)) == Look(40.0)
    assert base_of(looks[:1], Look(300.0)) is None
    assert base_of([Look(60.0)], Look(60.0)) is None


def test_cpu_is_what_was_used_in_between_and_memory_the_last() -> None:
    base = Look(0.0, Point(100.0, 10.0, 1), {KEY: Point(100.0, 1.0, 2, 90.0)})
    newest = Look(10.0, Point(110.0, 15.0, 3), {KEY: Point(110.0, 3.0, 4, 90.0)})
    assert node_use(base, newest) == Use(110.0, 10.0, 500_000_000, 3)
    assert container_use(base, newest, KEY) == Use(110.0, 10.0, 200_000_000, 4)
    assert container_use(base, newest, ("default", "web", "other")) is None


def test_a_container_that_was_started_since_is_compared_with_its_start() -> None:
    base = Look(0.0, None, {KEY: Point(100.0, 50.0, 2, 90.0)})
    newest = Look(10.0, None, {KEY: Point(110.0, 2.0, 4, 106.0)})
    assert container_use(base, newest, KEY) == Use(110.0, 4.0, 500_000_000, 4)
    young = Look(10.0, None, {KEY: Point(110.0, 2.0, 4, 109.9)})
    assert container_use(base, young, KEY) is None


def test_totals_that_shrink_say_nothing() -> None:
    assert between(Point(0.0, 5.0, 0), Point(10.0, 4.0, 0)) is None
    assert between(None, Point(10.0, 4.0, 0)) is None


def test_windows_are_written_as_go_does() -> None:
    assert [duration(one) for one in (1.0, 15.0204, 60.0, 75.5)] == ["1s", "15.02s", "1m0s", "1m15.5s"]
