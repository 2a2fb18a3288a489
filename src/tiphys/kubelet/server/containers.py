"""/containerLogs, /exec, /attach, /run, /portForward and /checkpoint: what is about one pod or container."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tiphys.base.errors import BadRequest, InternalError, MethodNotAllowed, NotFound, TiphysError
from tiphys.base.http.types import Duplex, Request, Response, is_websocket
from tiphys.kubelet.labels import Record, container_id
from tiphys.kubelet.podspec import Object, find_container, name_of, namespace_of, status_of
from tiphys.kubelet.server.answers import TEXT, text
from tiphys.kubelet.server.logs import Follower, parse_options, read_log
from tiphys.kubelet.streaming import serve_port_forward, serve_session
from tiphys.kubelet.streaming.idle import limited
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import Session

if TYPE_CHECKING:
    from tiphys.kubelet.app import Kubelet

log = logging.getLogger(__name__)

_NOT_FOUND = "404 page not found"


class Containers:
    """Answers for the pods of one kubelet. `idle` is after how many seconds a stream without traffic is closed."""

    def __init__(self, kubelet: Kubelet, idle: float) -> None:
        self._kubelet, self._idle = kubelet, idle

    # --- logs

    async def logs(self, request: Request, rest: list[str]) -> Response:
        """GET /containerLogs/NAMESPACE/POD/CONTAINER."""
        if len(rest) != 3:
            raise NotFound(_NOT_FOUND)
        options = parse_options(request, self._kubelet.clock.time())
        worker = self._worker(rest[0], rest[1], f'pod "{rest[1]}" does not exist')
        pod, name = worker.state.pod, rest[2]
        if find_container(pod, name) is None:
            raise NotFound(f'container "{name}" not found in pod "{rest[1]}"')
        id = log_container(worker.state.status, name_of(pod), name, options.previous)
        attempt = _attempt(worker, name, id)
        path = self._kubelet.config.container_log(namespace_of(pod), name_of(pod), worker.uid, name, attempt)
        if not path.exists():
            return text(f"unable to retrieve container logs for tiphys://{id}")
        if not options.follow:
            return Response(200, dict(TEXT), stream=read_log(path, options))
        return Response(200, dict(TEXT), stream=self._follow(worker, Follower(path, options, _ended(worker, id))))

    async def _follow(self, worker: PodWorker, follower: Follower) -> AsyncIterator[bytes]:
        worker.listeners.add(follower.wake)
        try:
            async with aclosing(follower.run()) as chunks:  # type: ignore[type-var]  # an async generator
                async for chunk in chunks:
                    yield chunk
        finally:
            worker.listeners.discard(follower.wake)

    # --- exec, attach, port-forward

    async def exec(self, request: Request, rest: list[str]) -> Response:
        """/exec/NAMESPACE/POD[/UID]/CONTAINER?command=..."""
        _some_stream(request)
        _, record = self._running_container(rest)
        command = request.query.get("command") or []
        if not command:
            raise BadRequest("you must specify at least one command")
        tty, stdin = option(request, "tty"), option(request, "input", "stdin")
        self._count(request, "exec")

        async def open_session() -> Session:
            return await self._kubelet.runtime.exec(record.id, command, tty=tty, stdin=stdin)

        return self._limited(serve_session(request, open_session, tty=tty, stdin=stdin, **_outputs(request)))

    async def attach(self, request: Request, rest: list[str]) -> Response:
        """/attach/NAMESPACE/POD[/UID]/CONTAINER."""
        _some_stream(request)
        worker, record = self._running_container(rest)
        container = find_container(worker.state.pod, record.name) or {}
        tty = bool(container.get("tty"))
        self._count(request, "attach")

        async def open_session() -> Session:
            return await self._kubelet.runtime.attach(record.id)

        stdin = option(request, "input", "stdin") and bool(container.get("stdin"))
        detaches = tty or not container.get("stdinOnce")
        answer = serve_session(request, open_session, tty=tty, stdin=stdin, detaches=detaches, **_outputs(request))
        return self._limited(answer)

    async def run(self, request: Request, rest: list[str]) -> Response:
        """POST /run/NAMESPACE/POD[/UID]/CONTAINER?cmd=..."""
        if request.method != "POST":
            raise MethodNotAllowed("405: Method Not Allowed")
        _, record = self._running_container(rest)
        command = request.param("cmd").split(" ")
        try:
            done = await self._kubelet.runtime.exec_sync(record.id, command, 0)
        except TiphysError as error:
            raise InternalError(str(error)) from error
        if done.exit_code != 0:
            shown = (done.stdout + done.stderr).decode(errors="replace")
            message = f"command '{' '.join(command)}' exited with {done.exit_code}: {shown}"
            raise InternalError(message)
        answer = text(done.stdout + done.stderr)
        answer.headers["content-type"] = "application/json"
        return answer

    async def port_forward(self, request: Request, rest: list[str]) -> Response:
        """/portForward/NAMESPACE/POD[/UID]."""
        if len(rest) not in (2, 3):
            raise NotFound(_NOT_FOUND)
        worker = self._worker(rest[0], rest[1], "pod does not exist")
        if len(rest) == 3 and rest[2] != worker.uid:
            raise NotFound("pod not found")
        sandbox = worker.state.sandbox
        if sandbox is None or not sandbox.running:
            raise InternalError(f'pod "{rest[1]}" is not running')
        self._count(request, "portforward")

        async def dial(port: int) -> Duplex:
            return await self._kubelet.runtime.dial(sandbox.id, port)

        return self._limited(serve_port_forward(request, dial))

    async def checkpoint(self, request: Request, rest: list[str]) -> Response:
        """Refused, for a container that exists: the runtime cannot make checkpoints."""
        if request.method != "POST" or len(rest) != 3:
            raise MethodNotAllowed("405: Method Not Allowed") if len(rest) == 3 else NotFound(_NOT_FOUND)
        worker = self._worker(rest[0], rest[1], "pod does not exist")
        if find_container(worker.state.pod, rest[2]) is None:
            raise NotFound(f"container {rest[2]} does not exist")
        why = "rpc error: code = Unimplemented desc = method CheckpointContainer not implemented"
        raise InternalError(f"checkpointing of {'/'.join(rest)} failed ({why})")

    def _limited(self, response: Response) -> Response:
        return limited(response, self._kubelet.clock, self._idle)

    def _count(self, request: Request, subresource: str) -> None:
        if is_websocket(request):
            self._kubelet.metrics.websockets.inc(subresource)

    def _worker(self, namespace: str, name: str, missing: str) -> PodWorker:
        """The pod's worker; of several with that name, the one that is not going away."""
        found = [
            worker
            for worker in self._kubelet.workers.values()
            if (namespace_of(worker.state.pod), name_of(worker.state.pod)) == (namespace, name)
        ]
        if not found:
            raise NotFound(missing)
        return min(found, key=lambda worker: worker.state.removed)

    def _running_container(self, rest: list[str]) -> tuple[PodWorker, Record]:
        if len(rest) not in (3, 4):
            raise NotFound(_NOT_FOUND)
        worker, name = self._worker(rest[0], rest[1], "pod does not exist"), rest[-1]
        if len(rest) == 3 or rest[2] == worker.uid:
            for record in worker.state.running():
                if record.name == name:
                    return worker, record
        raise InternalError(f'container not found ("{name}")')


def option(request: Request, *names: str) -> bool:
    """Whether one of the options is asked for."""
    return any(request.param(name).lower() in ("1", "true") for name in names)


def _some_stream(request: Request) -> None:
    outputs = _outputs(request)
    if not (option(request, "input", "stdin") or outputs["stdout"] or outputs["stderr"]):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")


def _outputs(request: Request) -> dict[str, bool]:
    return {"stdout": option(request, "output", "stdout"), "stderr": option(request, "error", "stderr")}


def log_container(status: Mapping[str, Any], pod: str, name: str, previous: bool) -> str:
    """The ID of the container whose log is meant. Raises BadRequest with upstream's words."""
    found: Object | None = status_of(status, name)
    if found is None:
        raise BadRequest(f'container "{name}" in pod "{pod}" is not available')
    state, last = found["state"], (found.get("lastState") or {}).get("terminated") or {}
    if previous:
        if not last.get("containerID"):
            raise BadRequest(f'previous terminated container "{name}" in pod "{pod}" not found')
        return str(last["containerID"]).rpartition("//")[2]
    if "running" in state:
        return str(found["containerID"]).rpartition("//")[2]
    ended = state.get("terminated") or {}
    if id := ended.get("containerID") or last.get("containerID"):
        return str(id).rpartition("//")[2]
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
