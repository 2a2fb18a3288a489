"""The node API: one Handler over a running Kubelet. The API server proxies kubectl's logs, exec, attach here.

Paths are upstream's (pkg/kubelet/server), each also with the pod's UID where it has one there. `open` is the handler of
the read-only port: what needs no identity there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiphys.base.errors import ApiError, MethodNotAllowed, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.base.metrics import CONTENT_TYPE
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.server import settings as server_settings
from tiphys.kubelet.server.answers import as_json, text
from tiphys.kubelet.server.auth import Gate
from tiphys.kubelet.server.listen import Certificate

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet
    from tiphys.kubelet.server.health import Health
    from tiphys.kubelet.server.sampling import Sampler

Route = Callable[[Request, list[str]], Awaitable[Response]]
OPEN = ("healthz", "pods", "stats", "metrics")
"""Served on the read-only port, too."""
DEBUGGING = ("run", "exec", "attach", "portForward", "containerLogs", "runningpods", "logs")
"""Not served without enableDebuggingHandlers."""
CONTAINERS = {
    "containerLogs": "logs",
    "exec": "exec",
    "run": "run",
    "attach": "attach",
    "portForward": "port_forward",
    "checkpoint": "checkpoint",
}
"""What containers.py answers, by the names of its methods."""
HEALTH = ("healthz", "statusz", "flagz")
PATHS = frozenset({*OPEN, *DEBUGGING, *CONTAINERS, *HEALTH, "configz", "debug"})
LONG_RUNNING = ("exec", "attach", "portforward", "debug")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE")


class NodeApi:
    """Answers requests; `handle` and `open` are Handlers."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self.settings = server_settings.of(kubelet.config.extra)
        self.certificate = Certificate(kubelet.config, self.settings, kubelet.clock)
        self._gate = Gate(
            kubelet.client,
            kubelet.clock,
            kubelet.config.node_name,
            self.settings,
            lambda: self.certificate.authorities,
        )
        self._routes: dict[str, Route] = {}
        """Made when first asked for: importing all of it is no part of a node's start."""

    @cached_property
    def sampler(self) -> Sampler:
        from tiphys.kubelet.server.sampling import Sampler

        return Sampler(self._kubelet)

    @cached_property
    def _health(self) -> Health:
        from tiphys.kubelet.server.health import Health

        return Health(self._kubelet, [f"/{name}" for name in sorted(PATHS)])

    def _make(self, top: str) -> Route | None:
        if top in CONTAINERS:
            from tiphys.kubelet.server.containers import Containers

            containers = Containers(self._kubelet, self.settings.idle_seconds)
            self._routes |= {path: getattr(containers, name) for path, name in CONTAINERS.items()}
        elif top in HEALTH:
            self._routes |= {name: getattr(self._health, name) for name in HEALTH}
        elif top == "logs":
            from tiphys.kubelet.server.nodelogs import NodeLogs

            self._routes[top] = NodeLogs(self.settings).handle
        elif top == "debug":
            from tiphys.kubelet.server.debug import Debug

            self._routes[top] = Debug(self.settings).handle
        else:
            own = {"pods": self._pods, "runningpods": self._running_pods, "configz": self._configz}
            self._routes |= own | {"stats": self._stats, "metrics": self._metrics}
        return self._routes.get(top)

    async def handle(self, request: Request) -> Response:
        """One request, of somebody who may make it."""
        return await self._counted(request, "readwrite", self._guarded)

    async def open(self, request: Request) -> Response:
        """One request to the read-only port."""
        return await self._counted(request, "readonly", self._unguarded)

    async def health(self, request: Request) -> Response:
        """One request to the port of health alone."""
        top, rest = _split(request)
        if top != "healthz":
            return text("404 page not found\n", 404)
        try:
            return await self._health.healthz(request, rest)
        except ApiError as error:
            return text(error.message, error.code)

    async def _counted(
        self, request: Request, server: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        clock, metrics = self._kubelet.clock, self._kubelet.metrics
        path = self._bucket(request.path)
        method = request.method if request.method in METHODS else "other"
        labels = (method, path, server, str(path in LONG_RUNNING).lower())
        metrics.requests.inc(*labels)
        metrics.requests_inflight.inc(*labels)
        began = clock.monotonic()
        try:
            return await answer(request)
        except ApiError as error:
            return text(error.message, error.code)
        finally:
            metrics.requests_inflight.dec(*labels)
            metrics.requests_duration.observe(clock.monotonic() - began, *labels)

    def _bucket(self, path: str) -> str:
        parts = path.lstrip("/").split("/", 2)
        if parts[0] == "metrics" and len(parts) > 1:
            return f"metrics/{parts[1]}" if parts[1] in ("cadvisor", "probes", "resource") else "other"
        return parts[0] if parts[0] in PATHS else "other"

    async def _guarded(self, request: Request) -> Response:
        request.user = await self._gate.pass_(request)
        top, rest = _split(request)
        if top in DEBUGGING and not self.settings.debugging:
            raise MethodNotAllowed("Debug endpoints are disabled.\n")
        return await self._route(request, top, rest)

    async def _unguarded(self, request: Request) -> Response:
        top, rest = _split(request)
        if top not in OPEN:
            raise NotFound("404 page not found\n")
        return await self._route(request, top, rest)

    async def _route(self, request: Request, top: str, rest: list[str]) -> Response:
        route = self._routes.get(top) or self._make(top)
        if route is None:
            raise NotFound("404 page not found\n")
        return await route(request, rest)

    # --- pods

    async def _pods(self, request: Request, rest: list[str]) -> Response:
        return as_json(_pod_list([_shown(worker.state.pod, worker.state.status) for worker in self._workers()]))

    async def _running_pods(self, request: Request, rest: list[str]) -> Response:
        found = []
        for worker in self._workers():
            running = worker.state.running()
            if running:
                pod = worker.state.pod
                meta = {name: pod["metadata"].get(name) for name in ("name", "namespace", "uid")}
                containers = [
                    {"name": record.name, "image": record.image_ref, "resources": {}}
                    for record in sorted(running, key=lambda record: record.name)
                ]
                found.append({"metadata": meta, "spec": {"containers": containers}, "status": {}})
        return as_json(_pod_list(found))

    def _workers(self) -> list[Any]:
        return list(self._kubelet.workers.values())

    # --- what is used

    async def _stats(self, request: Request, rest: list[str]) -> Response:
        if rest not in ([], ["summary"]):
            raise NotFound("404 page not found\n")
        from tiphys.kubelet.server.summary import summary

        only = request.query.get("only_cpu_and_memory") == ["true"]
        sample = await self.sampler.rated(disks=not only)
        return as_json(summary(sample, self.sampler.rates, only_cpu_and_memory=only))

    async def _metrics(self, request: Request, rest: list[str]) -> Response:
        pages = {
            "": self._own,
            "cadvisor": self._cadvisor,
            "resource": self._resource,
            "probes": self._probes,
        }
        if rest == ["slis"]:
            return await self._health.slis()
        page = pages.get(rest[0] if rest else "") if len(rest) < 2 else None
        if page is None:
            raise NotFound("404 page not found\n")
        return Response(200, {"content-type": CONTENT_TYPE}, await page())

    async def _own(self) -> bytes:
        from tiphys import KUBERNETES_VERSION
        from tiphys.kubelet.server.own_metrics import own_metrics

        return own_metrics(self._kubelet, await self.sampler.claims(), KUBERNETES_VERSION)

    async def _cadvisor(self) -> bytes:
        from tiphys.kubelet.server.cadvisor import cadvisor_page

        return cadvisor_page(await self.sampler.take(disks=True, processes=True), self._kubelet.agent.machine)

    async def _resource(self) -> bytes:
        from tiphys.kubelet.server.resource_page import resource_page

        return resource_page(await self.sampler.take())

    async def _probes(self) -> bytes:
        from tiphys.kubelet.server.families import Page
        from tiphys.kubelet.server.own_metrics import process

        page = Page()
        process(page, self._kubelet.clock)
        return self._kubelet.metrics.probes.render() + page.render()

    async def _configz(self, request: Request, rest: list[str]) -> Response:
        from tiphys.kubelet.server.configz import configz

        return as_json(configz(self._kubelet.config, self.settings))


def _split(request: Request) -> tuple[str, list[str]]:
    top, *rest = [part for part in request.path.split("/") if part] or [""]
    return top, rest


def _shown(pod: Object, status: Mapping[str, Any]) -> dict[str, Any]:
    return {**pod, "status": status}


def _pod_list(items: list[Any]) -> dict[str, Any]:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
