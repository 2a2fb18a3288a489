"""A tiny API server: a Handler that keeps objects of any resource, with watches. Enough to try clients on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from tiphys.base.errors import AlreadyExists, ApiError, Conflict, Gone, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.testing.clock import VirtualClock

T = TypeVar("T")


class TinyServer:
    """Objects by path; every write is remembered for watches."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[int, str, dict[str, Any]]] = []
        self.requests: list[Request] = []
        self.revision = 0
        self.oldest = 0
        self.fail: list[ApiError] = []
        self.changed = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if self.fail:
            error = self.fail.pop(0)
            return Response(error.code, obj=error.status())
        try:
            answer: Response = getattr(self, request.method.lower())(request)
        except ApiError as error:
            return Response(error.code, obj=error.status())
        return answer

    def get(self, request: Request) -> Response:
        if request.param("watch"):
            after = int(request.param("resourceVersion") or self.revision)
            if after < self.oldest:
                raise Gone("too old")
            return Response(events=self.follow(request.path, after))
        if request.path in self.objects:
            return Response(obj=self.objects[request.path])
        if not request.path.endswith("s"):
            raise NotFound(request.path)
        plural = request.path.rpartition("/")[2]
        items = [obj for path, obj in self.objects.items() if path.split("/")[-2] == plural]
        meta = {"resourceVersion": str(self.revision)}
        return Response(obj={"kind": "ThingList", "apiVersion": "v1", "metadata": meta, "items": items})

    def post(self, request: Request) -> Response:
        path = f"{request.path}/{request.obj['metadata']['name']}"
        if path in self.objects:
            raise AlreadyExists(path)
        return Response(201, obj=self.write("ADDED", path, request.obj))

    def put(self, request: Request) -> Response:
        held = self.objects.get(request.path)
        if held is None:
            raise NotFound(request.path)
        wanted = request.obj["metadata"].get("resourceVersion")
        if wanted and wanted != held["metadata"]["resourceVersion"]:
            raise Conflict(request.path)
        return Response(obj=self.write("MODIFIED", request.path, request.obj))

    def patch(self, request: Request) -> Response:
        if request.path not in self.objects:
            raise NotFound(request.path)
        return Response(obj=self.write("MODIFIED", request.path, {**self.objects[request.path], **request.obj}))

    def delete(self, request: Request) -> Response:
        if request.path not in self.objects:
            raise NotFound(request.path)
        obj = self.write("DELETED", request.path, self.objects[request.path])
        del self.objects[request.path]
        return Response(obj=obj)

    def write(self, type: str, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        self.revision += 1
        meta = {"uid": f"uid-{path}", **obj["metadata"], "resourceVersion": str(self.revision)}
        self.objects[path] = {**obj, "metadata": meta}
        self.log.append((self.revision, type, self.objects[path]))
        self.changed.set()
        self.changed = asyncio.Event()
        return self.objects[path]

    async def follow(self, path: str, after: int) -> AsyncIterator[dict[str, Any]]:
        while True:
            changed = self.changed
            for revision, type, obj in list(self.log):
                if revision > after:
                    after = revision
                    yield {"type": type, "object": obj}
            await changed.wait()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def run(clock: VirtualClock) -> Callable[[Coroutine[Any, Any, T]], T]:
    return clock.run


@pytest.fixture
def server() -> TinyServer:
    return TinyServer()


@pytest.fixture
def client(server: TinyServer) -> LocalClient:
    return LocalClient(server, User("tester"))
