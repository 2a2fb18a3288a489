"""The node API: one Handler over a running Kubelet. The API server proxies kubectl's logs, exec, attach here.

Paths are upstream's (pkg/kubelet/server), each also with the pod's UID where it has one there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tiphys.base.errors import ApiError, BadRequest, InternalError, MethodNotAllowed, NotFound, TiphysError
from tiphys.base.http.types import Duplex, Request, Response
from tiphys.kubelet.labels import SCHEME, Record, container_id
from tiphys.kubelet.podspec import Object, find_container, is_host_network, name_of, namespace_of, status_of
from tiphys.kubelet.server import stats
from tiphys.kubelet.server.auth import Gate
from tiphys.kubelet.server.logs import Follower, parse_options, read_log
from tiphys.kubelet.streaming import serve_port_forward, serve_session
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import Session

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet

log = logging.getLogger(__name__)

_TEXT = {"content-type": "text/plain; charset=utf-8"}
_JSON = {"content-type": "application/json"}
_METRICS = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}

Route = Callable[[Request, list[str]], Awaitable[Response]]


class NodeApi:
    """Answers requests; `handle` is the Handler."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._gate = Gate(kubelet.client, kubelet.clock, kubelet.config.node_name)
        self._routes: Mapping[str, Route] = {
            "healthz": self._healthz,
            "pods": self._pods,
            "runningpods": self._running_pods,
            "containerLogs": self._logs,
            "exec": self._exec,
            "run": self._run,
            "attach": self._attach,
            "portForward": self._port_forward,
            "stats": self._stats,
            "metrics": self._metrics,
            "configz": self._configz,
        }

    async def handle(self, request: Request) -> Response:
        """One request."""
        try:
            request.user = await self._gate.pass_(request)
            top, *rest = [part for part in request.path.split("/") if part] or [""]
            route = self._routes.get(top)
            if route is None:
                raise NotFound("404 page not found")
            return await route(request, rest)
        except ApiError as error:
            return Response(error.code, dict(_TEXT), error.message.encode())

    async def _healthz(self, request: Request, rest: list[str]) -> Response:
        return Response(200, dict(_TEXT), b"ok")

    async def _pods(self, request: Request, rest: list[str]) -> Response:
        return _json(_pod_list([worker.state.pod for worker in self._kubelet.workers.values()]))

    async def _running_pods(self, request: Request, rest: list[str]) -> Response:
        found = []
        for worker in self._kubelet.workers.values():
            names = sorted({record.name for record in worker.state.running()})
            if names:
                pod = worker.state.pod
                meta = {name: pod["metadata"].get(name) for name in ("name", "namespace", "uid")}
                found.append({"metadata": meta, "spec": {"containers": [{"name": name} for name in names]}})
        return _json(_pod_list(found))

    async def _stats(self, request: Request, rest: list[str]) -> Response:
        if rest not in ([], ["summary"]):
            raise NotFound("404 page not found")
        return _json(await stats.summary(self._kubelet))

    async def _metrics(self, request: Request, rest: list[str]) -> Response:
        if rest == ["resource"]:
            text = await stats.resource_metrics(self._kubelet)
        elif not rest:
            text = stats.metrics(self._kubelet)
        else:
            raise NotFound(f"the kubelet has no metrics at {request.path}")
        return Response(200, dict(_METRICS), text.encode())

    async def _configz(self, request: Request, rest: list[str]) -> Response:
        config = self._kubelet.config
        shown = {
            "nodeStatusReportFrequency": f"{config.status_report_frequency:g}s",
            "nodeLeaseDurationSeconds": config.lease_duration,
            "maxPods": config.max_pods,
            "podPidsLimit": config.pod_pids_limit or -1,
            "clusterDNS": list(config.cluster_dns),
            "clusterDomain": config.cluster_domain,
            "resolvConf": str(config.resolv_conf or ""),
            "systemReserved": dict(config.system_reserved),
            "kubeReserved": dict(config.kube_reserved),
            "evictionHard": dict(config.eviction_hard),
            **config.extra,
        }
        return _json({"kubeletconfig": shown})

    # --- logs

    async def _logs(self, request: Request, rest: list[str]) -> Response:
        if len(rest) != 3:
            raise NotFound("404 page not found")
        worker = self._worker(rest[0], rest[1])
        pod, name = worker.state.pod, rest[2]
        if find_container(pod, name) is None:
            raise NotFound(f'container "{name}" not found in pod "{rest[1]}"')
        options = parse_options(request, self._kubelet.clock.time())
        id = log_container(worker.state.status, name_of(pod), name, options.previous)
        attempt = _attempt(worker, name, id)
        path = self._kubelet.config.container_log(namespace_of(pod), name_of(pod), worker.uid, name, attempt)
        if not path.exists():
            raise InternalError(f"unable to retrieve container logs for {SCHEME}{id}")
        if not options.follow:
            return Response(200, dict(_TEXT), stream=read_log(path, options))
        return Response(200, dict(_TEXT), stream=self._follow(worker, id, Follower(path, options, _ended(worker, id))))

    async def _follow(self, worker: PodWorker, id: str, follower: Follower) -> AsyncIterator[bytes]:
        worker.listeners.add(follower.wake)
        try:
            async with aclosing(follower.run()) as chunks:  # type: ignore[type-var]  # an async generator
                async for chunk in chunks:
                    yield chunk
        finally:
            worker.listeners.discard(follower.wake)

    # --- exec, attach, port-forward

    async def _exec(self, request: Request, rest: list[str]) -> Response:
        _, record = self._running_container(rest)
        command = request.query.get("command") or []
        if not command:
            raise BadRequest("you must specify a command")
        tty, stdin = _option(request, "tty"), _option(request, "input", "stdin")

        async def open_session() -> Session:
            return await self._kubelet.runtime.exec(record.id, command, tty=tty, stdin=stdin)

        return serve_session(request, open_session, tty=tty, stdin=stdin, **_outputs(request))

    async def _attach(self, request: Request, rest: list[str]) -> Response:
        worker, record = self._running_container(rest)
        container = find_container(worker.state.pod, record.name) or {}
        tty = bool(container.get("tty"))

        async def open_session() -> Session:
            return await self._kubelet.runtime.attach(record.id)

        stdin = _option(request, "input", "stdin") and bool(container.get("stdin"))
        detaches = tty or not container.get("stdinOnce")
        return serve_session(request, open_session, tty=tty, stdin=stdin, detaches=detaches, **_outputs(request))

    async def _run(self, request: Request, rest: list[str]) -> Response:
        if request.method != "POST":
            raise MethodNotAllowed("405: Method Not Allowed")
        _, record = self._running_container(rest)
        command = request.param("cmd").split()
        try:
            done = await self._kubelet.runtime.exec_sync(record.id, command, 0)
        except TiphysError as error:
            raise InternalError(str(error)) from error
        return Response(200, dict(_TEXT), done.stdout + done.stderr)

    async def _port_forward(self, request: Request, rest: list[str]) -> Response:
        if len(rest) not in (2, 3):
            raise NotFound("404 page not found")
        worker = self._worker(rest[0], rest[1])
        sandbox = worker.state.sandbox
        if sandbox is None or not sandbox.running:
            raise NotFound(f'pod "{rest[1]}" is not running')

        async def dial(port: int) -> Duplex:
            if is_host_network(worker.state.pod):
                log.debug("port-forward to the host's own port %d", port)
            return await self._kubelet.runtime.dial(sandbox.id, port)

        return serve_port_forward(request, dial)

    def _worker(self, namespace: str, name: str) -> PodWorker:
        """The pod's worker; of several with that name, the one that is not going away."""
        found = [
            worker
            for worker in self._kubelet.workers.values()
            if (namespace_of(worker.state.pod), name_of(worker.state.pod)) == (namespace, name)
        ]
        if not found:
            raise NotFound(f'pod "{name}" does not exist')
        return min(found, key=lambda worker: worker.state.removed)

    def _running_container(self, rest: list[str]) -> tuple[PodWorker, Record]:
        if len(rest) not in (3, 4):
            raise NotFound("404 page not found")
        worker, name = self._worker(rest[0], rest[1]), rest[-1]
        for record in worker.state.running():
            if record.name == name:
                return worker, record
        raise NotFound(f'container not found ("{name}")')


def _pod_list(items: list[Any]) -> dict[str, Any]:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def _json(value: Any) -> Response:
    return Response(200, dict(_JSON), json.dumps(value, separators=(",", ":"), default=dict).encode())


def _option(request: Request, *names: str) -> bool:
    return any(request.param(name).lower() in ("1", "true") for name in names)


def _outputs(request: Request) -> dict[str, bool]:
    return {"stdout": _option(request, "output", "stdout"), "stderr": _option(request, "error", "stderr")}


def log_container(status: Mapping[str, Any], pod: str, name: str, previous: bool) -> str:
    """The ID of the container whose log is meant. Raises BadRequest with upstream's words."""
    found: Object | None = status_of(status, name)
    if found is None:
        raise BadRequest(f'container "{name}" in pod "{pod}" is not available')
    state, last = found["state"], (found.get("lastState") or {}).get("terminated") or {}
    if previous:
        if not last.get("containerID"):
            raise BadRequest(f'previous terminated container "{name}" in pod "{pod}" not found')
        return str(last["containerID"]).removeprefix(SCHEME)
    if "running" in state:
        return str(found["containerID"]).removeprefix(SCHEME)
    ended = state.get("terminated") or {}
    if id := ended.get("containerID") or last.get("containerID"):
        return str(id).removeprefix(SCHEME)
    if ended or last:
        raise BadRequest(f'container "{name}" in pod "{pod}" is terminated')
    reason = (state.get("waiting") or {}).get("reason", "")
    shown = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    raise BadRequest(f'container "{name}" in pod "{pod}" is waiting to start: {shown.get(reason, reason)}')


def _attempt(worker: PodWorker, name: str, id: str) -> int:
    """Which run of the container has this ID."""
    record = worker.state.records.get(id)
    if record is not None:
        return record.attempt
    known = status_of(worker.state.status, name) or {}
    newest = int(known.get("restartCount") or 0)
    for attempt in range(newest + 1, -1, -1):
        if container_id(worker.uid, name, attempt) == id:
            return attempt
    return newest


def _ended(worker: PodWorker, id: str) -> Callable[[], bool]:
    def ended() -> bool:
        record = worker.state.records.get(id)
        return worker.stopped or record is None or record.exited

    return ended
