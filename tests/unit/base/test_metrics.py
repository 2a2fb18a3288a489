"""The Prometheus text format."""

from __future__ import annotations

import pytest

from tiphys.base.metrics import Registry


def test_all_kinds_are_rendered() -> None:
    registry = Registry()
    requests = registry.counter("requests_total", "Requests.", ["verb", "code"])
    requests.inc("GET", "200")
    requests.inc("GET", "200", by=2)
    requests.inc('P"\\\n', "500")
    registry.gauge("depth", "How deep.").set(2.5)
    registry.gauge("up", "Computed.").function = lambda: 1
    latency = registry.histogram("seconds", "How long.", ["verb"], buckets=[0.1, 1])
    for value in (0.05, 0.1, 0.5, 7):
        latency.observe(value, "GET")
    assert registry.render().decode() == (
        "# HELP depth How deep.\n# TYPE depth gauge\ndepth 2.5\n"
        "# HELP requests_total Requests.\n# TYPE requests_total counter\n"
        'requests_total{verb="GET",code="200"} 3\n'
        'requests_total{verb="P\\"\\\\\\n",code="500"} 1\n'
        "# HELP seconds How long.\n# TYPE seconds histogram\n"
        'seconds_bucket{verb="GET",le="0.1"} 2\n'
        'seconds_bucket{verb="GET",le="1"} 3\n'
        'seconds_bucket{verb="GET",le="+Inf"} 4\n'
        'seconds_sum{verb="GET"} 7.65\n'
        'seconds_count{verb="GET"} 4\n'
        "# HELP up Computed.\n# TYPE up gauge\nup 1\n"
    )


def test_mistakes_are_refused() -> None:
    registry = Registry()
    counter = registry.counter("a", "A.", ["x"])
    with pytest.raises(ValueError, match="labels"):
        counter.inc()
    with pytest.raises(ValueError, match="go down"):
        counter.inc("x", by=-1)
    with pytest.raises(ValueError, match="exists"):
        registry.gauge("a", "Again.")
