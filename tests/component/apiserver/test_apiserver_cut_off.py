"""A server whose caches fell behind the store, or whose store was away, reads everything again; objects too large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.store.memory import MemoryStore
from tiphys.store.types import Page, Unavailable
from tiphys.testing.clock import VirtualClock

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
MAPS = "/api/v1/namespaces/default/configmaps"


class Moody(MemoryStore):
    """A store that cannot be read now and then."""

    refusals = 0

    async def list(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the store is away")
        return await super().list(prefix, revision=revision, after=after, limit=limit)


async def http(server: ApiServer, method: str, url: str, body: Any = None) -> Response:
    path, _, query = url.partition("?")
    raw = b"" if body is None else orjson.dumps(body)
    headers = {"content-type": "application/json"} if raw else {}
    return await server.handler(Request(method, path, query, headers=headers, body=raw, user=ADMIN, raw_path=path))


@pytest.mark.parametrize("compacted", [False, True])
def test_caches_that_were_cut_off_show_everything_again(compacted: bool) -> None:
    clock = VirtualClock()

    async def main() -> None:
        store = Moody(buffer=300)
        async with ApiServer(ApiServerConfig(event_seconds=600.0), store, clock) as server:
            for n in range(3):
                assert (await http(server, "POST", MAPS, {"metadata": {"name": f"c{n}"}})).status == 201
            watch = await http(server, "GET", f"{MAPS}?watch=true&timeoutSeconds=100")
            assert watch.stream is not None
            event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
            assert (await http(server, "POST", "/api/v1/namespaces/default/events", event)).status == 201
            row = await store.get("core/configmaps/default/c0")
            assert row is not None
            store.refusals = 2
            for n in range(400):  # nobody else gets a turn: the feed cannot follow
                await store.put(f"core/configmaps/default/d{n:03}", row.value.replace(b'"c0"', b'"d%03d"' % n))
            await store.delete("core/configmaps/default/c0")
            if compacted:
                await store.compact(await store.revision())
            await clock.sleep(10)
            names = [item["metadata"]["name"] for item in orjson.loads((await http(server, "GET", MAPS)).body)["items"]]
            assert [name for name in names if name[0] in "cd"] == ["c1", "c2", *(f"d{n:03}" for n in range(400))]
            ended = [line async for chunk in watch.stream for line in chunk.splitlines()]
            # Watches go on without loss where the log still has everything, and end where it has not.
            assert len(ended) == (3 if compacted else 404)
            # What follows the caches inside the server goes on as well.
            await clock.sleep(700)
            assert (await http(server, "GET", "/api/v1/namespaces/default/events/e")).status == 404

    clock.run(main())


def test_an_object_larger_than_etcd_takes_is_refused_in_its_words(play: Callable[..., None]) -> None:
    async def scenario(world: Any) -> None:
        path = "/apis/apps/v1/namespaces/default/controllerrevisions"

        def revision(size: int) -> dict[str, Any]:
            return {"metadata": {"name": f"r{size}"}, "revision": 1, "data": {"text": "x" * size}}

        assert (await world.http("POST", path, revision(1_500_000))).status == 201
        answer = await world.http("POST", path, revision(1_600_000))
        status = orjson.loads(answer.body)
        assert (answer.status, status["message"]) == (413, "etcdserver: request is too large")
        assert (await world.http("GET", f"{path}/r1600000")).status == 404

    play(scenario)
