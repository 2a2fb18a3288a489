"""Usage from two looks at a kubelet's /metrics/resource. Pure.

CPU is a total that grows, so a rate needs two points; memory is the last one's. Times are the kubelet's own, of the
moment when it asked the kernel: what a scrape takes on its way does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SHORTEST = 0.5
"""Seconds; a rate over less says little."""
WANTED = 10.0
"""Of the looks that are known the newest that is so old is compared with."""
LONGEST = 90.0

Key = tuple[str, str, str]
"""Namespace, pod, container."""
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)(?: (\d+))?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Point:
    """CPU in seconds in all, memory in bytes, when (seconds since the epoch), and since when it runs."""

    time: float
    cpu: float
    memory: float
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """One answer of a kubelet. `seen_at` is the moment by the asker's monotonic clock."""

    seen_at: float
    node: Point | None = None
    containers: Mapping[Key, Point] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Use:
    """CPU in nanocores over `window` seconds up to `time`, memory in bytes."""

    time: float
    window: float
    cpu: int
    memory: int


def parse(page: str, seen_at: float) -> Look:
    """A page in Prometheus' text format; lines of other metrics are passed over."""
    values: dict[tuple[str, Key], tuple[float, float]] = {}
    for line in page.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, labels, value, stamp = match.groups()
        known = dict(_LABEL.findall(labels or ""))
        key = (known.get("namespace", ""), known.get("pod", ""), known.get("container", ""))
        try:
            values[name, key] = (float(value), int(stamp) / 1000 if stamp else 0.0)
        except ValueError:
            continue
    found: dict[Key, Point] = {}
    for (name, key), (cpu, time) in values.items():
        if name == "container_cpu_usage_seconds_total":
            memory = values.get(("container_memory_working_set_bytes", key), (0.0, 0.0))[0]
            started = values.get(("container_start_time_seconds", key), (0.0, 0.0))[0]
            found[key] = Point(time, cpu, memory, started)
    none = ("", "", "")
    node = values.get(("node_cpu_usage_seconds_total", none))
    memory = values.get(("node_memory_working_set_bytes", none), (0.0, 0.0))[0]
    return Look(seen_at, Point(node[1], node[0], memory) if node is not None else None, found)


def base_of(looks: Iterable[Look], newest: Look) -> Look | None:
    """What to compare the newest look with: the newest one that is WANTED older, else the oldest. None if too young."""
    older = [one for one in looks if SHORTEST <= newest.seen_at - one.seen_at <= LONGEST]
    if not older:
        return None
    enough = [one for one in older if newest.seen_at - one.seen_at >= WANTED]
    return max(enough, key=_seen) if enough else min(older, key=_seen)


def _seen(look: Look) -> float:
    return look.seen_at


def node_use(base: Look, newest: Look) -> Use | None:
    """Of the node; None when one look did not tell."""
    return between(base.node, newest.node) if newest.node is not None else None


def container_use(base: Look, newest: Look, key: Key) -> Use | None:
    """Of a container; one that was started since then is compared with its start."""
    last = newest.containers.get(key)
    if last is None:
        return None
    before = base.containers.get(key)
    if before is None or before.started_at != last.started_at:
        before = Point(last.started_at, 0.0, 0.0, last.started_at)
    return between(before, last)


def between(before: Point | None, last: Point) -> Use | None:
    """None when the points are too close, or the total has shrunk."""
    if before is None:
        return None
    window = last.time - before.time
    if window < SHORTEST or last.cpu < before.cpu:
        return None
    return Use(last.time, window, round((last.cpu - before.cpu) / window * 1e9), round(last.memory))
