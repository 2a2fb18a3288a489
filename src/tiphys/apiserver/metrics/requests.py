"""Counts and times requests, for each combination of upstream's labels: one dict get and a few additions a request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from tiphys.apiserver.guard import long_running
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler, Request, Response

_SHORT = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
DURATIONS = (0.005, 0.025, *_SHORT)
"""Upper bounds, in seconds."""
SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
"""Upper bounds, in bytes."""
MOST = 5000
"""Combinations that are told apart: paths that nobody serves must not fill the memory."""
READS = frozenset({"get", "list", "watch", "head", "options", "proxy"})
_VERBS = {"create": "POST", "update": "PUT", "proxy": "CONNECT"}
_CONNECTING = frozenset({"exec", "attach", "portforward", "proxy"})
_NAMES = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
Key = tuple[str, str, str, str, str, str, str, str]


class Histogram:
    """Observations at or below each bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        count = 0
        for bound, more in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            count += more
            yield f'{name}_bucket{{{labels},le="{bound if isinstance(bound, str) else format(bound, "g")}"}} {count}'
        yield f"{name}_sum{{{labels}}} {self.total}"
        yield f"{name}_count{{{labels}}} {count}"


class Series:
    """What is known of the requests of one combination of labels."""

    __slots__ = ("codes", "durations", "running", "sizes")

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.durations, self.sizes = Histogram(DURATIONS), Histogram(SIZES)
        self.running = 0


class Requests:
    """The link of the chain, and what it has counted."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._series: dict[Key, Series] = {}
        self._other = Series()
        self._under_way = [0, 0]

    def link(self, handler: Handler) -> Handler:
        """Counts and times."""

        async def link(request: Request) -> Response:
            info: RequestInfo = request.attributes["info"]
            start, kind = self._monotonic(), 0 if info.verb in READS else 1
            lasting = long_running(info)
            self._under_way[kind] += not lasting
            code, size = 500, 0
            try:
                response = await handler(request)
                code, size = response.status, len(response.body)
            except Exception as error:
                code = getattr(error, "code", 500)
                raise
            finally:
                self._under_way[kind] -= not lasting
                self._record(request, info, code, size, self._monotonic() - start)
            return response

        return link

    def _record(self, request: Request, info: RequestInfo, code: int, size: int, seconds: float) -> None:
        series = self._of(labels(request, info))
        series.codes[code] += 1
        series.durations.add(seconds)
        if size and info.verb != "watch":
            series.sizes.add(size)

    def _of(self, key: Key) -> Series:
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MOST:
                return self._other
            series = self._series[key] = Series()
        return series

    def lines(self) -> Iterator[str]:
        """Lines of the text format."""
        found = [(rendered(key), series) for key, series in sorted(self._series.items())]
        yield from head("apiserver_request_total", "counter", "Requests by what they were and how they ended.")
        for text, series in found:
            for code, count in sorted(series.codes.items()):
                yield f'apiserver_request_total{{{text},code="{code}"}} {count}'
        for name, help in (("request_duration_seconds", "to answer"), ("request_sli_duration_seconds", "to answer")):
            yield from head(f"apiserver_{name}", "histogram", f"Seconds {help}.")
            for text, series in found:
                yield from series.durations.lines(f"apiserver_{name}", text)
        yield from head("apiserver_response_sizes", "histogram", "Bytes of answers.")
        for text, series in found:
            if any(series.sizes.counts):
                yield from series.sizes.lines("apiserver_response_sizes", text)
        yield from head("apiserver_current_inflight_requests", "gauge", "Requests under way.")
        for kind, count in zip(("readOnly", "mutating"), self._under_way, strict=True):
            yield f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {count}'


def labels(request: Request, info: RequestInfo) -> Key:
    """The values of upstream's labels. What is no resource has its path's first piece as subresource."""
    dry = "All" if request.query_string and "dryRun=All" in request.query_string else ""
    if not info.resource_request:
        return request.method, dry, "", "", "", "/" + info.path.strip("/").partition("/")[0], "", "apiserver"
    verb = "APPLY" if info.verb == "patch" and "apply-patch" in request.headers.get("content-type", "") else ""
    if info.subresource in _CONNECTING:
        verb = "CONNECT"
    scope = "resource" if info.name or info.verb == "create" else "namespace" if info.namespace else "cluster"
    verb = verb or _VERBS.get(info.verb) or info.verb.upper()
    return verb, dry, info.group, info.version, info.resource, info.subresource, scope, "apiserver"


def rendered(key: Key) -> str:
    return ",".join(f'{name}="{escape(value)}"' for name, value in zip(_NAMES, key, strict=True))


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def head(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
