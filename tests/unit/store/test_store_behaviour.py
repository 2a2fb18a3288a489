"""What any store must do: revisions, compare-and-swap, lists at a revision, compaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tiphys.store.types import Compacted, FutureRevision, Mismatch, Page, Store, Unavailable

OpenStore = Callable[..., Store]


@pytest.fixture
def run(open_store: OpenStore) -> Callable[[Callable[[Store], Awaitable[None]]], None]:
    async def body(test: Callable[[Store], Awaitable[None]]) -> None:
        store = open_store()
        try:
            await test(store)
        finally:
            await store.close()

    return lambda test: asyncio.run(body(test))


Run = Callable[[Callable[[Store], Awaitable[None]]], None]


def keys(page: Page) -> list[str]:
    return [row.key for row in page.rows]


def test_revisions_start_at_one_and_grow_by_one(run: Run) -> None:
    async def body(store: Store) -> None:
        assert await store.revision() == 0
        rows = [await store.put(key, b"v") for key in ("a", "b", "a")]
        assert [row.revision for row in rows] == [1, 2, 3]
        assert await store.revision() == 3

    run(body)


def test_a_row_keeps_its_creation_its_actor_and_its_cause(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1", actor="jane", cause="x")
        row = await store.put("a", b"\x00\xff", actor="bob", cause="y")
        assert row == await store.get("a")
        assert (row.value, row.revision, row.created, row.actor, row.cause) == (b"\x00\xff", 2, 1, "bob", "y")

    run(body)


def test_compare_and_swap_refuses_and_shows_the_current_row(run: Run) -> None:
    async def body(store: Store) -> None:
        first = await store.put("a", b"1", expect=0)
        with pytest.raises(Mismatch) as caught:
            await store.put("a", b"2", expect=0)
        assert caught.value.current == first
        with pytest.raises(Mismatch) as caught:
            await store.put("b", b"2", expect=7)
        assert caught.value.current is None
        with pytest.raises(Mismatch):
            await store.delete("a", expect=9)
        assert await store.revision() == 1
        assert (await store.put("a", b"2", expect=1)).revision == 2

    run(body)


def test_of_many_racing_writers_exactly_one_swaps(run: Run) -> None:
    async def body(store: Store) -> None:
        row = await store.put("a", b"0")
        writes = [store.put("a", b"%d" % n, expect=row.revision) for n in range(50)]
        answers = await asyncio.gather(*writes, return_exceptions=True)
        winners = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(winners) == 1
        assert all(isinstance(answer, Mismatch) for answer in answers if answer not in winners)
        assert await store.get("a") == winners[0]

    run(body)


def test_delete_returns_the_last_value_at_the_deletions_revision(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1", actor="jane")
        row = await store.delete("a", actor="bob", cause="gc")
        assert row is not None
        assert (row.value, row.revision, row.created, row.actor, row.cause) == (b"1", 2, 1, "bob", "gc")
        assert await store.get("a") is None
        assert await store.delete("a") is None
        assert await store.delete("a", expect=0) is None
        assert await store.revision() == 2

    run(body)


def test_a_key_created_again_has_a_new_creation(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1")
        await store.delete("a")
        row = await store.put("a", b"2", expect=0)
        assert row.created == row.revision == 3

    run(body)


def test_list_returns_a_prefix_in_key_order(run: Run) -> None:
    async def body(store: Store) -> None:
        for key in ("b/2", "a/1", "b/10", "b", "b0", "c/1", "b/é", "b/\U0010ffff"):
            await store.put(key, key.encode())
        page = await store.list("b/")
        assert keys(page) == ["b/10", "b/2", "b/é", "b/\U0010ffff"]
        assert page.rows[2].value == "b/é".encode()
        assert (page.revision, page.remaining) == (8, 0)
        assert len((await store.list("")).rows) == 8
        assert keys(await store.list("x")) == []

    run(body)


def test_pages_are_of_one_revision_and_count_what_remains(run: Run) -> None:
    async def body(store: Store) -> None:
        for n in range(5):
            await store.put(f"a/{n}", b"old")
        page = await store.list("a/", limit=2)
        assert (keys(page), page.remaining) == (["a/0", "a/1"], 3)
        await store.put("a/3", b"new")
        await store.delete("a/4")
        await store.put("a/5", b"new")
        rest = await store.list("a/", revision=page.revision, after="a/1", limit=3)
        assert [(row.key, row.value) for row in rest.rows] == [("a/2", b"old"), ("a/3", b"old"), ("a/4", b"old")]
        assert (rest.revision, rest.remaining) == (5, 0)
        now = await store.list("a/", after="a/1")
        assert [(row.key, row.value) for row in now.rows] == [("a/2", b"old"), ("a/3", b"new"), ("a/5", b"new")]

    run(body)


def test_a_page_may_start_before_or_after_its_prefix(run: Run) -> None:
    async def body(store: Store) -> None:
        for key in ("a/1", "b/1", "b/2", "c/1"):
            await store.put(key, b"")
        assert keys(await store.list("b/", after="a/9")) == ["b/1", "b/2"]
        assert keys(await store.list("b/", after="b/1")) == ["b/2"]
        assert keys(await store.list("b/", after="c/0")) == []

    run(body)


def test_get_at_a_revision_sees_the_past(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1")
        await store.put("a", b"2")
        await store.delete("a")
        await store.put("b", b"4")
        await store.put("a", b"5")
        seen = [await store.get("a", revision) for revision in range(1, 6)]
        assert [row.value if row else None for row in seen] == [b"1", b"2", None, None, b"5"]
        assert await store.get("b", 3) is None

    run(body)


def test_the_future_is_refused(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1")
        for call in (store.get("a", 2), store.list("", revision=2), store.compact(2)):
            with pytest.raises(FutureRevision):
                await call

    run(body)


def test_compaction_keeps_current_rows_and_what_follows(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("live", b"1")
        await store.put("changed", b"1")
        await store.put("gone", b"1")
        await store.delete("gone")
        await store.put("changed", b"2")
        await store.compact(5)
        await store.put("changed", b"3")
        with pytest.raises(Compacted):
            await store.get("live", 4)
        with pytest.raises(Compacted):
            await store.list("", revision=4)
        with pytest.raises(Compacted):
            await store.list("a", after="b", revision=4)
        at_five = await store.list("", revision=5)
        assert [(row.key, row.value) for row in at_five.rows] == [("changed", b"2"), ("live", b"1")]
        assert [(row.key, row.value) for row in (await store.list("")).rows] == [("changed", b"3"), ("live", b"1")]
        await store.compact(3)
        with pytest.raises(Compacted):
            await store.get("live", 4)

    run(body)


def test_compacting_everything_keeps_the_revision_counter(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1")
        await store.delete("a")
        await store.compact(2)
        assert await store.revision() == 2
        assert (await store.list("")).rows == ()
        assert (await store.put("a", b"2")).revision == 3

    run(body)


@pytest.mark.parametrize("key", ["", "a\0b", "a\ud800"])
def test_what_cannot_be_a_key_is_refused(run: Run, key: str) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(ValueError):
            await store.put(key, b"")
        assert (await store.put("a", b"")).revision == 1

    run(body)


def test_a_cancelled_writer_does_not_harm_the_others(run: Run) -> None:
    async def body(store: Store) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.put(f"k{n}", b"v")) for n in range(20)]
            await asyncio.gather(tasks[0])
            tasks[5].cancel()
        assert len((await store.list("")).rows) >= 19

    run(body)


def test_a_closed_store_is_unavailable(run: Run) -> None:
    async def body(store: Store) -> None:
        await store.put("a", b"1")
        await store.close()
        await store.close()
        with pytest.raises(Unavailable):
            await store.put("a", b"2")
        with pytest.raises(Unavailable):
            await store.get("a")

    run(body)


def test_size_grows_with_what_is_stored(run: Run) -> None:
    async def body(store: Store) -> None:
        before = await store.size()
        async with asyncio.timeout(10):
            # etcd takes space some time later, and in larger pieces.
            number = 0
            while await store.size() < before + 100_000:
                await store.put(f"a/{number}", b"x" * 100_000)
                number += 1

    run(body)
