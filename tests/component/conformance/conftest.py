"""A whole control plane on virtual time, asked as a client over HTTP asks: what the scenarios of the suite need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.tokens import new_key
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import ADMIN, Cluster

PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class World:
    """The cluster and ways to ask it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.clock = cluster.clock

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
        return await self.cluster.server.handler(request)

    async def ask(self, method: str, url: str, body: Any = None, **options: Any) -> Any:
        """The decoded answer, whatever it is."""
        return orjson.loads((await self.http(method, url, body, **options)).body)

    async def ok(self, method: str, url: str, body: Any = None, **options: Any) -> Any:
        """The decoded answer of a request that has to succeed."""
        answer = await self.http(method, url, body, **options)
        assert answer.status < 300, answer.body
        return orjson.loads(answer.body)

    async def patch(self, url: str, body: Any, form: str = "merge") -> Any:
        """The decoded answer to a patch that has to succeed; `form` is a key of PATCHES."""
        return await self.ok("PATCH", url, body, content_type=PATCHES[form])


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture(scope="session")
def account_key() -> bytes:
    """Making one takes longer than most scenarios."""
    return new_key()


@pytest.fixture
def play(account_key: bytes) -> Callable[..., None]:
    """Run a scenario against a new cluster of two nodes; keyword arguments are Cluster's."""

    def run(scenario: Scenario, **options: Any) -> None:
        clock = VirtualClock()
        options.setdefault("config", ApiServerConfig(service_account_key=account_key))
        options.setdefault("nodes", 2)

        async def main() -> None:
            async with Cluster(clock, **options) as cluster:
                if options.get("controllers", True):
                    await cluster.wait(SERVICE_ACCOUNTS, "default", "default", timeout=10)
                await scenario(World(cluster))

        try:
            clock.run(main())
        finally:
            clock.close()

    return run
