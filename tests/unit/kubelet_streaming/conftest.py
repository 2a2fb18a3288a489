"""A fake runtime session, and a server that offers it as kubectl expects it of the API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.base.http.duplex import connect
from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.kubelet.streaming import serve_port_forward, serve_session


class FakeSession:
    """A few commands: cat, head N, exit N, count N bytes, both (a line on each stream), sleep, size, broken."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(4)
        self._code = 0
        self._closed_stdin = False
        self._resized: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        match self._command:
            case ["cat"]:
                while data := await self._stdin.get():
                    yield 1, data
            case ["head", count]:
                yield 1, (await self._stdin.get())[: int(count)]
                self._closed_stdin = True
                while not self._stdin.empty():
                    self._stdin.get_nowait()
            case ["exit", code]:
                yield 2, b"going\n"
                self._code = int(code)
            case ["count", size]:
                for _ in range(int(size) // 65536):
                    yield 1, b"x" * 65536
            case ["both"]:
                yield 1, b"out\n"
                yield 2, b"err\n"
            case ["size"]:
                width, height = await self._resized.get()
                yield 1, f"{width}x{height}".encode()
            case ["broken"]:
                raise Permanent("the shim is gone")
            case _:
                await self.closed.wait()

    async def write(self, data: bytes) -> None:
        if self._closed_stdin:
            raise BrokenPipeError
        await self._stdin.put(data)

    async def close_stdin(self) -> None:
        await self._stdin.put(b"")

    async def detach(self) -> None:
        self.closed.set()

    async def resize(self, width: int, height: int) -> None:
        self._resized.put_nowait((width, height))

    async def wait(self) -> int:
        return self._code

    async def close(self) -> None:
        self.closed.set()


class Node:
    """The handler; `sessions` are those that it opened."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []

    async def handle(self, request: Request) -> Response:
        if request.path.endswith("/portforward"):
            return serve_port_forward(request, lambda port: connect("127.0.0.1", port))
        if request.path.endswith(("/exec", "/attach")):
            return self._session(request)
        return _api(request)

    def _session(self, request: Request) -> Response:
        async def open_session() -> FakeSession:
            command = request.query.get("command", ["cat"])
            if command == ["missing"]:
                raise Permanent("exec: missing: no such file")
            self.sessions.append(FakeSession(command))
            return self.sessions[-1]

        def flag(name: str) -> bool:
            return request.param(name) == "true"

        streams = {name: flag(name) for name in ("tty", "stdin", "stdout", "stderr")}
        return serve_session(request, open_session, **streams, detaches=flag("detaches"))


POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "default", "uid": "u"},
    "spec": {"containers": [{"name": "c", "image": "i", "stdin": True}]},
    "status": {"phase": "Running", "containerStatuses": [{"name": "c", "ready": True, "state": {"running": {}}}]},
}
PODS = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
ANSWERS: dict[str, Any] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [PODS]},
    "/api/v1/namespaces/default/pods/p": POD,
}


def _api(request: Request) -> Response:
    answer = ANSWERS.get(request.path)
    missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
    body = json.dumps(answer or missing).encode()
    return Response(200 if answer else 404, {"Content-Type": "application/json"}, body)


Serving = Callable[..., AbstractAsyncContextManager[tuple[Node, int]]]


@pytest.fixture
def serving() -> Serving:
    """`async with serving(tls=...) as (node, port)`."""

    @asynccontextmanager
    async def run(**options: Any) -> AsyncIterator[tuple[Node, int]]:
        node = Node()
        async with serve(node.handle, "127.0.0.1", 0, **options) as server:
            yield node, server.port

    return run
