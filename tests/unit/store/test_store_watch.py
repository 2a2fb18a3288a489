"""Watches: every write after a revision, in order, exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from tiphys.base.clock import SystemClock
from tiphys.store.types import Compacted, Event, Store

OpenStore = Callable[..., Store]
in_this_process = pytest.mark.parametrize("open_store", ["memory", "sqlite"], indirect=True)
"""etcd keeps what is due to a slow reader in its log, and knows itself who listens."""


async def take(events: AsyncIterator[tuple[Event, ...]], upto: int) -> list[Event]:
    """Events until one has revision `upto`."""
    seen: list[Event] = []
    async for batch in events:
        seen += batch
        if seen[-1].row.revision >= upto:
            break
    return seen


def test_a_watch_reads_the_past_then_the_present(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store()
        await store.put("a", b"1")
        await store.put("a", b"2", actor="jane")
        async with store.watch("", 0) as events:
            past = await take(events, 2)
            await store.delete("a", actor="bob")
            present = await take(events, 3)
        seen = past + present
        assert [(e.row.revision, e.row.value) for e in seen] == [(1, b"1"), (2, b"2"), (3, b"")]
        assert [e.deleted for e in seen] == [False, False, True]
        assert [e.previous.value if e.previous else None for e in seen] == [None, b"1", b"2"]
        assert [e.row.actor for e in seen] == ["", "jane", "bob"]
        await store.close()

    asyncio.run(body())


def test_a_watch_sees_only_its_prefix_and_only_what_is_later(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store()
        for key in ("a/1", "b/1", "a/2"):
            await store.put(key, b"")
        async with store.watch("a/", 1) as events:
            await store.put("b/2", b"")
            await store.put("a/3", b"")
            assert [e.row.key for e in await take(events, 5)] == ["a/2", "a/3"]
        async with store.watch("a/", 7) as events:
            for n in range(4):
                await store.put(f"a/{n}", b"later")
            assert [e.row.revision for e in await take(events, 9)] == [8, 9]
        await store.close()

    asyncio.run(body())


@pytest.mark.parametrize("seed", range(5))
def test_joining_under_load_leaves_no_gap_and_no_duplicate(open_store: OpenStore, seed: int) -> None:
    chance = random.Random(seed)

    async def write(store: Store, number: int) -> None:
        for n in range(150):
            await store.put(f"k/{number}/{n % 7}", b"v")

    async def watch(store: Store) -> None:
        for _ in range(chance.randrange(200)):
            await SystemClock().sleep(0)
        after = chance.randrange(await store.revision() + 1)
        async with store.watch("k/", after) as events:
            seen = await take(events, 1200)
        assert [e.row.revision for e in seen] == list(range(after + 1, 1201))

    async def body() -> None:
        store = open_store()
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(write(store, number))
                group.create_task(watch(store))
        await store.close()

    asyncio.run(body())


def test_a_watch_from_before_the_compaction_is_refused(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store()
        for _ in range(4):
            await store.put("a", b"")
        await store.compact(3)
        with pytest.raises(Compacted):
            async with store.watch("", 2):
                pass
        async with store.watch("", 3) as events:
            seen = await take(events, 4)
            assert seen[0].previous is not None
        await store.close()

    asyncio.run(body())


def test_a_watch_overtaken_by_a_compaction_is_told(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store()
        for _ in range(3):
            await store.put("a", b"")
        async with store.watch("", 0) as events:
            await store.compact(3)
            with pytest.raises(Compacted):
                await take(events, 3)
        await store.close()

    asyncio.run(body())


@in_this_process
def test_a_reader_that_falls_too_far_behind_is_cut(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store(buffer=10)
        async with store.watch("", 0) as events, store.watch("b", 0) as other:
            for _ in range(11):
                await store.put("a", b"")
            await store.put("b", b"")
            with pytest.raises(Compacted):
                await take(events, 11)
            assert len(await take(other, 12)) == 1
        await store.close()

    asyncio.run(body())


def test_closing_the_store_ends_its_watches_after_what_they_hold(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store()
        async with store.watch("", 0) as events, asyncio.TaskGroup() as group:
            idle = group.create_task(take(events, 99))
            await store.put("a", b"")
            await store.close()
            assert [e.row.key for e in await idle] == ["a"]

    asyncio.run(body())


@in_this_process
def test_leaving_a_watch_unsubscribes_it(open_store: OpenStore) -> None:
    async def body() -> None:
        store = open_store()
        async with store.watch("", 0):
            assert len(store._feed._watches) == 1  # type: ignore[attr-defined]
        assert not store._feed._watches  # type: ignore[attr-defined]
        await store.close()

    asyncio.run(body())
