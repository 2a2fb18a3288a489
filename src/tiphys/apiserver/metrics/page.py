"""The page itself: requests, flow control, objects, watches, the store and the process."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from pathlib import Path

from tiphys.apiserver.fairness.levels import Pool
from tiphys.apiserver.fairness.report import lines as fairness_lines
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.metrics.requests import Requests, head
from tiphys.apiserver.version import version_info
from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.metrics import CONTENT_TYPE, Registry
from tiphys.store.types import Store, StoreError


class Metrics:
    """Counts what goes through the chain and shows it. `fairness` is the pool of seats, if there is one."""

    def __init__(self, clock: Clock, caches: Caches, store: Store) -> None:
        self.requests = Requests(clock)
        self.fairness: Pool | None = None
        self.registries: list[Registry] = []
        """What other parts count."""
        self._caches, self._store = caches, store
        self._started = clock.time()

    def link(self, handler: Handler) -> Handler:
        """The link of the chain that counts and times."""
        return self.requests.link(handler)

    async def page(self, request: Request) -> Response:
        """GET /metrics."""
        lines = [*self.requests.lines(), *self._objects(), *self._watches(), *await self._storage(), *self._process()]
        if self.fairness is not None:
            lines += fairness_lines(self.fairness)
        body = ("\n".join(lines) + "\n").encode() + b"".join(registry.render() for registry in self.registries)
        return Response(200, {"Content-Type": CONTENT_TYPE}, body)

    def _objects(self) -> Iterator[str]:
        caches = [cache for cache in self._caches.all() if len(cache)]
        yield from head("apiserver_storage_objects", "gauge", "Stored objects.")
        for cache in caches:
            group = f".{cache.stored.group}" if cache.stored.group else ""
            yield f'apiserver_storage_objects{{resource="{cache.stored.plural}{group}"}} {len(cache)}'
        yield from head("apiserver_resource_objects", "gauge", "Stored objects.")
        for cache in caches:
            labels = f'group="{cache.stored.group}",resource="{cache.stored.plural}"'
            yield f"apiserver_resource_objects{{{labels}}} {len(cache)}"
        name = "apiserver_watch_cache_resource_version"
        yield from head(name, "gauge", "Revision that the watch cache shows.")
        for cache in caches:
            stored = cache.stored
            yield f'{name}{{group="{stored.group}",resource="{stored.plural}"}} {self._caches.current}'

    def _watches(self) -> Iterator[str]:
        yield from head("apiserver_longrunning_requests", "gauge", "Open watches.")
        for cache in self._caches.all():
            count = sum(1 for _ in cache.watchers())
            if count:
                stored = cache.stored
                where = f'group="{stored.group}",resource="{stored.plural}"'
                version = stored.api_version.rpartition("/")[2]
                labels = (
                    f'verb="WATCH",{where},version="{version}",subresource="",scope="cluster",component="apiserver"'
                )
                yield f"apiserver_longrunning_requests{{{labels}}} {count}"

    async def _storage(self) -> list[str]:
        try:
            size = await self._store.size()
        except StoreError:
            return []  # a page without the size is better than none while the store is away
        name = "apiserver_storage_size_bytes"
        return [*head(name, "gauge", "Bytes of the store."), f'{name}{{storage_cluster_id="store-0"}} {size}']

    def _process(self) -> Iterator[str]:
        usage, version = resource.getrusage(resource.RUSAGE_SELF), version_info()
        names = {"gitVersion": "git_version", "gitCommit": "git_commit", "platform": "platform", "major": "major"}
        names |= {"minor": "minor", "buildDate": "build_date", "compiler": "compiler", "goVersion": "go_version"}
        build = ",".join(f'{name}="{version[key]}"' for key, name in names.items() if key in version)
        yield from head("kubernetes_build_info", "gauge", "Version of this server.")
        yield f"kubernetes_build_info{{{build}}} 1"
        for name, kind, help, value in (
            ("process_cpu_seconds_total", "counter", "User and system time.", usage.ru_utime + usage.ru_stime),
            ("process_start_time_seconds", "gauge", "Start, since the epoch.", self._started),
            ("process_resident_memory_bytes", "gauge", "Resident memory.", resident()),
            ("process_max_resident_memory_bytes", "gauge", "Largest resident memory so far.", usage.ru_maxrss * 1024),
            ("process_open_fds", "gauge", "Open file descriptors.", sum(1 for _ in Path("/proc/self/fd").iterdir())),
            ("python_gc_objects", "gauge", "Objects that the collector follows.", sum(gc.get_count())),
        ):
            yield from head(name, kind, help)
            yield f"{name} {value}"


def resident() -> int:
    """Bytes of memory in use (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
