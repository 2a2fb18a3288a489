"""/metrics: requests, watches, objects and process facts in the Prometheus text format, with upstream's names."""

from __future__ import annotations

import gc
import resource
from bisect import bisect_left
from collections import Counter

from tiphys.apiserver.fairness.levels import Pool
from tiphys.apiserver.fairness.report import lines as fairness_lines
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.types import RequestInfo
from tiphys.apiserver.version import version_info
from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler, Request, Response

BUCKETS = (
    0.005,
    0.025,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    15.0,
    20.0,
    30.0,
)
"""Upper bounds of request durations, in seconds."""
Labels = tuple[str, str, str, str, str]
"""verb, group, version, resource, subresource"""


class Durations:
    """A histogram's counts for one set of labels."""

    __slots__ = ("buckets", "count", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.count, self.sum = 0, 0.0


class Metrics:
    """Counts what goes through the chain."""

    def __init__(self, clock: Clock, caches: Caches) -> None:
        self._clock, self._caches = clock, caches
        self._started = clock.time()
        self._requests: Counter[tuple[Labels, int]] = Counter()
        self._durations: dict[Labels, Durations] = {}
        self._inflight = 0
        self.fairness: Pool | None = None

    def link(self, handler: Handler) -> Handler:
        """The link of the chain that counts and times."""
        monotonic = self._clock.monotonic

        async def link(request: Request) -> Response:
            start = monotonic()
            self._inflight += 1
            code = 500
            try:
                response = await handler(request)
                code = response.status
            except Exception as error:
                code = getattr(error, "code", 500)
                raise
            finally:
                self._inflight -= 1
                self._record(request.attributes["info"], code, monotonic() - start)
            return response

        return link

    def _record(self, info: RequestInfo, code: int, seconds: float) -> None:
        labels = (info.verb, info.group, info.version, info.resource, info.subresource)
        self._requests[labels, code] += 1
        durations = self._durations.get(labels)
        if durations is None:
            if len(self._durations) > 5000:
                return  # paths that nobody serves must not fill the memory
            durations = self._durations[labels] = Durations()
        durations.count += 1
        durations.sum += seconds
        durations.buckets[bisect_left(BUCKETS, seconds)] += 1

    async def page(self, request: Request) -> Response:
        """GET /metrics."""
        lines = [*self._request_lines(), *self._object_lines(), *self._process_lines()]
        if self.fairness is not None:
            lines += fairness_lines(self.fairness)
        body = "\n".join(lines) + "\n"
        return Response(200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}, body.encode())

    def _request_lines(self) -> list[str]:
        lines = [
            "# HELP apiserver_request_total Requests by verb, resource and code.",
            "# TYPE apiserver_request_total counter",
        ]
        for (labels, code), count in sorted(self._requests.items()):
            lines.append(f'apiserver_request_total{{code="{code}",{_labels(labels)}}} {count}')
        name = "apiserver_request_duration_seconds"
        lines += [f"# HELP {name} Time to answer, in seconds.", f"# TYPE {name} histogram"]
        for labels, durations in sorted(self._durations.items()):
            text, total = _labels(labels), 0
            for bound, count in zip((*BUCKETS, "+Inf"), durations.buckets, strict=True):
                total += count
                lines.append(f'{name}_bucket{{{text},le="{bound}"}} {total}')
            lines += [f"{name}_sum{{{text}}} {durations.sum}", f"{name}_count{{{text}}} {durations.count}"]
        inflight = "apiserver_current_inflight_requests"
        return [
            *lines,
            f"# HELP {inflight} Requests under way.",
            f"# TYPE {inflight} gauge",
            f"{inflight} {self._inflight}",
        ]

    def _object_lines(self) -> list[str]:
        lines = ["# HELP apiserver_storage_objects Stored objects.", "# TYPE apiserver_storage_objects gauge"]
        watches = ["# HELP apiserver_longrunning_requests Open watches.", "# TYPE apiserver_longrunning_requests gauge"]
        for cache in self._caches.all():
            stored = cache.stored
            lines.append(f'apiserver_storage_objects{{group="{stored.group}",resource="{stored.plural}"}} {len(cache)}')
            count = sum(1 for _ in cache.watchers())
            if count:
                where = f'group="{stored.group}",resource="{stored.plural}",verb="WATCH"'
                watches.append(f"apiserver_longrunning_requests{{{where}}} {count}")
        revision = f"apiserver_storage_revision {self._caches.current}"
        return [*lines, *watches, "# HELP apiserver_storage_revision Revision of the watch cache.",
                "# TYPE apiserver_storage_revision gauge", revision]  # fmt: skip

    def _process_lines(self) -> list[str]:
        usage, version = resource.getrusage(resource.RUSAGE_SELF), version_info()
        build = ",".join(
            f'{name}="{version[key]}"'
            for name, key in (("git_version", "gitVersion"), ("major", "major"), ("minor", "minor"))
        )
        return [
            "# HELP kubernetes_build_info Version of this server.",
            "# TYPE kubernetes_build_info gauge",
            f"kubernetes_build_info{{{build}}} 1",
            "# HELP process_cpu_seconds_total User and system time, in seconds.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}",
            "# HELP process_start_time_seconds Start, in seconds since the epoch.",
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self._started}",
            "# HELP process_max_resident_memory_bytes Largest resident set so far.",
            "# TYPE process_max_resident_memory_bytes gauge",
            f"process_max_resident_memory_bytes {usage.ru_maxrss * 1024}",
            "# HELP python_gc_objects Objects that the collector follows.",
            "# TYPE python_gc_objects gauge",
            f"python_gc_objects {sum(gc.get_count())}",
        ]


def _labels(labels: Labels) -> str:
    names = ("verb", "group", "version", "resource", "subresource")
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, labels, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
