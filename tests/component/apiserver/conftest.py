"""An API server in this process, over a store in memory, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))


@dataclass
class World:
    """A running server and ways to speak to it."""

    server: ApiServer
    store: MemoryStore
    clock: VirtualClock

    @property
    def client(self) -> LocalClient:
        return LocalClient(self.server.handler, ADMIN)

    async def http(
        self, method: str, url: str, body: Any = None, *, user: User | None = ADMIN, **headers: str
    ) -> Response:
        """A request as it comes from a socket; headers with _ for -."""
        path, _, query = url.partition("?")
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            head.setdefault("content-type", "application/json")
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        request = Request(method, path, query, headers=head, body=raw, user=user, raw_path=path)
        return await self.server.handler(request)

    async def json(self, method: str, url: str, body: Any = None, *, user: User | None = ADMIN, **headers: str) -> Any:
        """The decoded answer of a request."""
        return orjson.loads((await self.http(method, url, body, user=user, **headers)).body)


Scenario = Callable[[World], Awaitable[None]]


@asynccontextmanager
async def running(clock: VirtualClock, store: MemoryStore, **config: Any) -> AsyncIterator[World]:
    async with ApiServer(ApiServerConfig(**config), store, clock) as server:
        yield World(server, store, clock)


@pytest.fixture
def play() -> Callable[..., None]:
    """Run a scenario against a new server; keyword arguments are its configuration."""

    def run(scenario: Scenario, **config: Any) -> None:
        clock, store = VirtualClock(), MemoryStore()

        async def main() -> None:
            async with running(clock, store, **config) as world:
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
                await world.json("POST", "/api/v1/namespaces/default/serviceaccounts", account)
                await scenario(world)

        clock.run(main())

    return run
