"""Metrics in Prometheus' text format: counters, gauges and histograms with labels.

A component makes a `Registry`, its metrics from it, and serves `registry.render()` at /metrics. Not thread-safe:
everything that counts runs on the event loop.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: Prometheus' own defaults."""

Labels = tuple[str, ...]
M = TypeVar("M", bound="Metric")


class Metric:
    """A name with a family of series, one for each combination of label values."""

    kind = "untyped"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.label_names = tuple(labels)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """(suffix of the name, rendered labels, value)."""
        raise NotImplementedError

    def _check(self, labels: Labels) -> None:
        if len(labels) != len(self.label_names):
            raise ValueError(f"metric {self.name} has the labels {self.label_names}, got {labels}")

    def _labels(self, values: Labels, *more: tuple[str, str]) -> str:
        pairs = (*zip(self.label_names, values, strict=True), *more)
        return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}" if pairs else ""


class Counter(Metric):
    """Only grows."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Raises ValueError for a negative amount."""
        if by < 0:
            raise ValueError(f"counter {self.name} cannot go down")
        self._add(labels, by)

    def _add(self, labels: Labels, by: float) -> None:
        if labels not in self._values:
            self._check(labels)
            self._values[labels] = 0.0
        self._values[labels] += by

    def value(self, *labels: str) -> float:
        return self._values.get(labels, 0.0)

    def remove(self, *labels: str) -> None:
        """Forget a series whose object is gone."""
        self._values.pop(labels, None)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        for labels, value in sorted(self._values.items()):
            yield "", self._labels(labels), value


class Gauge(Counter):
    """Goes up and down; or is computed by `function` when it is asked for."""

    kind = "gauge"
    function: Callable[[], float] | None = None

    def set(self, value: float, *labels: str) -> None:
        self._check(labels)
        self._values[labels] = value

    def inc(self, *labels: str, by: float = 1.0) -> None:
        self._add(labels, by)

    def dec(self, *labels: str, by: float = 1.0) -> None:
        self._add(labels, -by)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        if self.function is not None:
            self.set(self.function())
        return super().samples()


class Histogram(Metric):
    """How many observations were at most each of `buckets` (ascending upper bounds), their sum and count."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = BUCKETS) -> None:
        super().__init__(name, help, labels)
        self._bounds = tuple(buckets)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        counts = self._counts.get(labels)
        if counts is None:
            self._check(labels)
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def remove(self, *labels: str) -> None:
        """Forget a series whose object is gone."""
        self._counts.pop(labels, None)
        self._sums.pop(labels, None)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*self._bounds, math.inf), counts, strict=True):
                total += count
                yield "_bucket", self._labels(labels, ("le", _number(bound))), total
            yield "_sum", self._labels(labels), self._sums[labels]
            yield "_count", self._labels(labels), total


class Registry:
    """The metrics of one component."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        return self._add(Counter(name, help, labels))

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        return self._add(Gauge(name, help, labels))

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = BUCKETS
    ) -> Histogram:
        return self._add(Histogram(name, help, labels, buckets))

    def _add(self, metric: M) -> M:
        if metric.name in self._metrics:
            raise ValueError(f"metric {metric.name} exists already")
        self._metrics[metric.name] = metric
        return metric

    def render(self) -> bytes:
        """The text exposition format (CONTENT_TYPE)."""
        lines = []
        for name, metric in sorted(self._metrics.items()):
            escaped = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
            lines += [f"# HELP {name} {escaped}", f"# TYPE {name} {metric.kind}"]
            lines += [f"{name}{suffix}{labels} {_number(value)}" for suffix, labels, value in metric.samples()]
        return "".join(f"{line}\n" for line in lines).encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(float(value))
