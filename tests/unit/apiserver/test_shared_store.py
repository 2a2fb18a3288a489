"""Servers that share a store: who compacts, and how requests wait for what others wrote."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.apiserver.compaction import KEY, Compaction
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.freshness import Freshness, wants_the_present
from tiphys.apiserver.requestinfo import parse
from tiphys.base.errors import ServiceUnavailable
from tiphys.base.http.types import Request
from tiphys.store.memory import MemoryStore
from tiphys.store.types import Compacted, Unavailable
from tiphys.testing.clock import VirtualClock


class Shared(MemoryStore):
    """As if others wrote to it: counts how often it was asked, may be away."""

    shared = True
    asked = 0
    away = False

    async def revision(self) -> int:
        self.asked += 1
        if self.away:
            raise Unavailable("etcd is away")
        return await super().revision()


def test_one_server_compacts_at_a_time_and_the_others_learn_of_it() -> None:
    clock = VirtualClock()

    async def main() -> None:
        store = Shared()
        first = await store.put("a", b"1")
        caches = [Caches(store, (), clock) for _ in range(3)]
        tasks = []
        async with asyncio.TaskGroup() as group:
            for one in caches:
                await one.load()
                tasks += [group.create_task(one.run())]
                tasks += [group.create_task(Compaction(store, one, clock, 300.0, 3600.0).run())]
            await store.put("a", b"2")
            rounds = []
            for _ in range(6):
                await clock.sleep(300.0)
                row = await store.get(KEY)
                rounds.append(row.revision if row is not None else 0)
                await store.put("a", b"more")
            # A row a round, however many servers there are.
            assert len(set(rounds)) == 6
            with pytest.raises(Compacted):
                await store.get("a", first.revision)
            assert all(one.horizon > first.revision for one in caches)
            for task in tasks:
                task.cancel()

    clock.run(main())


def test_requests_of_a_moment_share_one_question() -> None:
    async def main() -> None:
        store, clock = Shared(), VirtualClock()
        caches = Caches(store, (), clock)
        await caches.load()
        freshness = Freshness(store, caches)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(caches.run()), group.create_task(freshness.run())]
            await store.put("a", b"1")
            store.asked = 0
            await asyncio.gather(*(freshness.reach() for _ in range(50)))
            assert store.asked == 1
            assert caches.current == 1
            store.away = True
            with pytest.raises(Unavailable, match="etcd is away"):
                await freshness.reach()
            store.away = False
            await freshness.reach()
            for task in tasks:
                task.cancel()

    asyncio.run(main())


def test_caches_that_do_not_come_after_are_told() -> None:
    clock = VirtualClock()

    async def main() -> None:
        store = Shared()
        caches = Caches(store, (), clock)
        await caches.load()
        freshness = Freshness(store, caches)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(freshness.run())
            await store.put("a", b"1")
            with pytest.raises(ServiceUnavailable, match="the watch cache is at 0, the store at 1"):
                await freshness.reach()
            task.cancel()

    clock.run(main())


@pytest.mark.parametrize(
    ("method", "url", "wanted"),
    [
        ("GET", "/api/v1/pods", True),
        ("GET", "/api/v1/namespaces/a/pods/b", True),
        ("GET", "/api/v1/pods?resourceVersion=0", False),
        ("GET", "/api/v1/pods?watch=1&resourceVersion=7", False),
        ("GET", "/api/v1/pods?watch=1", True),
        ("POST", "/api/v1/namespaces/a/pods?resourceVersion=0", True),
        ("DELETE", "/api/v1/namespaces/a/pods/b", True),
        ("GET", "/healthz", False),
    ],
)
def test_only_reads_that_name_a_version_may_be_behind(method: str, url: str, wanted: bool) -> None:
    path, _, query = url.partition("?")
    request = Request(method, path, query, raw_path=path)
    assert wants_the_present(request, parse(request)) is wanted
