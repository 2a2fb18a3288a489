"""Lists in pages and watches from anywhere, by the rules of the API reference ("API Concepts")."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson

from tiphys.apiserver.watcher import LIMIT

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"
LABEL = "watch-this-configmap"
END = {"k8s.io/initial-events-end": "true"}
INTERVAL = 300.0


class Stream:
    """A watch, read event by event."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = aiter(stream)
        self._lines: list[bytes] = []

    async def next(self) -> dict[str, Any]:
        while not self._lines:
            self._lines = (await anext(self._stream)).splitlines()
        event: dict[str, Any] = orjson.loads(self._lines.pop(0))
        return event

    async def take(self, count: int) -> list[tuple[str, str]]:
        return [brief(await self.next()) for _ in range(count)]

    async def rest(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self._lines] + [
            orjson.loads(line) async for chunk in self._stream for line in chunk.splitlines()
        ]


def brief(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"].get("name", "")


async def watch(world: Any, query: str = "", path: str = MAPS, **headers: str) -> Stream:
    answer = await world.http("GET", f"{path}?watch=true&{query}", **headers)
    assert answer.status == 200, answer.body
    return Stream(answer.stream)


async def create(world: Any, name: str, path: str = MAPS, **labels: str) -> dict[str, Any]:
    body = {"metadata": {"name": name, "labels": labels}, "data": {"mutation": "0"}}
    made: dict[str, Any] = await world.json("POST", path, body)
    return made


async def change(world: Any, name: str, **fields: Any) -> dict[str, Any]:
    patch = {"content-type": "application/merge-patch+json"}
    changed: dict[str, Any] = await world.json("PATCH", f"{MAPS}/{name}", fields, **patch)
    return changed


def version(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


def started(token: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return found


async def pages(world: Any, first: str, limit: int) -> list[dict[str, Any]]:
    found = [await world.json("GET", f"{first}limit={limit}")]
    while token := found[-1]["metadata"].get("continue"):
        found.append(await world.json("GET", f"{first}limit={limit}&continue={token}"))
    return found


def names(page: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in page["items"]]


def test_pages_show_one_version_and_count_what_remains(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for n in range(20):
            await create(world, f"c{n:02}")
        first = await world.json("GET", f"{MAPS}?limit=7")
        assert (len(first["items"]), first["metadata"]["remainingItemCount"]) == (7, 13)
        assert started(first["metadata"]["continue"]) == {
            "v": "meta.k8s.io/v1",
            "rv": version(first),
            "start": "c06\0",
        }
        await world.http("DELETE", f"{MAPS}/c08")
        await create(world, "c08-new")
        second = await world.json("GET", f"{MAPS}?limit=7&continue={first['metadata']['continue']}")
        assert names(second) == [f"c{n:02}" for n in range(7, 14)]
        assert (version(second), second["metadata"]["remainingItemCount"]) == (version(first), 6)
        third = await world.json("GET", f"{MAPS}?limit=7&continue={second['metadata']['continue']}")
        assert names(third) == [f"c{n:02}" for n in range(14, 20)]
        assert third["metadata"] == {"resourceVersion": str(version(first))}
        everything = await pages(world, "/api/v1/configmaps?", 3)
        assert [name for page in everything for name in names(page) if name[0] == "c"] == names(
            await world.json("GET", MAPS)
        )

    play(scenario)


def test_a_continuation_that_expired_tells_how_to_go_on(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for n in range(20):
            await create(world, f"c{n:02}")
        first = await world.json("GET", f"{MAPS}?limit=5")
        second = f"{MAPS}?limit=5&continue={first['metadata']['continue']}"
        await world.clock.sleep(INTERVAL)
        assert (await world.http("GET", second)).status == 200
        await world.clock.sleep(INTERVAL + 1)
        answer = await world.http("GET", second)
        status = orjson.loads(answer.body)
        assert (answer.status, status["reason"]) == (410, "Expired")
        assert status["message"].startswith("The provided continue parameter is too old to display a consistent list")
        token = status["metadata"]["continue"]
        assert started(token) == {"v": "meta.k8s.io/v1", "rv": -1, "start": "c04\0"}
        page = await world.json("GET", f"{MAPS}?limit=5&continue={token}")
        assert names(page) == [f"c{n:02}" for n in range(5, 10)]
        assert version(page) != version(first)
        assert page["metadata"]["remainingItemCount"] == 10
        rest = await world.json("GET", f"{MAPS}?continue={page['metadata']['continue']}")
        assert (names(rest)[0], len(rest["items"]), version(rest)) == ("c10", 10, version(page))
        exact = await world.json("GET", f"{MAPS}?resourceVersion={version(first)}&resourceVersionMatch=Exact")
        assert exact["message"] == "The resourceVersion for the provided list is too old."

    play(scenario)


def test_a_limit_does_not_count_where_any_version_will_do(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for n in range(5):
            await create(world, f"c{n}", kind="even" if n % 2 == 0 else "odd")
        assert len((await world.json("GET", f"{MAPS}?resourceVersion=0&limit=2"))["items"]) == 5
        # With a selector there is another page as long as there are objects, and nobody counts them.
        selected = await pages(world, f"{MAPS}?labelSelector=kind%3Deven&", 2)
        assert [names(page) for page in selected] == [["c0", "c2"], ["c4"]]
        assert all("remainingItemCount" not in page["metadata"] for page in selected)
        odd = await pages(world, f"{MAPS}?labelSelector=kind%3Dodd&", 2)
        assert [names(page) for page in odd] == [["c1", "c3"], []]
        one = await pages(world, f"{MAPS}?fieldSelector=metadata.name%3Dc1&", 1)
        assert [names(page) for page in one] == [["c1"]]

    play(scenario)


def test_versions_select_what_a_list_shows(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, "a")
        later = await create(world, "b")
        at = version(made)
        for query, status, shown in (
            (f"resourceVersion={at}&resourceVersionMatch=Exact", 200, ["a"]),
            (f"resourceVersion={at}&limit=5", 200, ["a"]),
            (f"resourceVersion={at}&limit=5&resourceVersionMatch=NotOlderThan", 200, ["a", "b"]),
            (f"resourceVersion={at}", 200, ["a", "b"]),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", 200, ["a", "b"]),
        ):
            answer = await world.http("GET", f"{MAPS}?{query}")
            found = orjson.loads(answer.body)
            assert (answer.status, [name for name in names(found) if len(name) == 1]) == (status, shown), query
        future = await world.http("GET", f"{MAPS}?resourceVersion={version(later) + 1000}")
        status = orjson.loads(future.body)
        assert (future.status, status["reason"], future.headers["Retry-After"]) == (504, "Timeout", "1")
        assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
        got = await world.http("GET", f"{MAPS}/a?resourceVersion={version(later) + 1000}")
        assert got.status == 504

    play(scenario)


def test_watchers_see_what_enters_and_leaves_their_selection(play: Play) -> None:
    async def scenario(world: Any) -> None:
        selector = f"labelSelector={LABEL}%3Dlabel-changed-and-restored"
        now = version(await world.json("GET", MAPS))
        stream = await watch(world, f"{selector}&resourceVersion={now}")
        await create(world, "c", **{LABEL: "label-changed-and-restored"})
        await change(world, "c", data={"mutation": "1"})
        left = await change(world, "c", metadata={"labels": {LABEL: "wrong-value"}})
        assert await stream.take(2) == [("ADDED", "c"), ("MODIFIED", "c")]
        gone = await stream.next()
        # It is shown as it was last selected, at the version of the change that took it away.
        assert (brief(gone), version(gone["object"])) == (("DELETED", "c"), version(left))
        assert gone["object"]["metadata"]["labels"] == {LABEL: "label-changed-and-restored"}
        await change(world, "c", data={"mutation": "2"})
        await change(world, "c", metadata={"labels": {LABEL: "label-changed-and-restored"}})
        await change(world, "c", data={"mutation": "3"})
        await world.http("DELETE", f"{MAPS}/c")
        assert await stream.take(3) == [("ADDED", "c"), ("MODIFIED", "c"), ("DELETED", "c")]

    play(scenario)


def test_a_watch_of_one_name_sees_only_it(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world, "mine")
        old_path = "/api/v1/watch/namespaces/default/configmaps/mine"
        streams = [
            await watch(world, "fieldSelector=metadata.name%3Dmine"),
            Stream((await world.http("GET", old_path)).stream),
        ]
        await create(world, "other")
        await change(world, "mine", data={"mutation": "1"})
        for stream in streams:
            assert await stream.take(2) == [("ADDED", "mine"), ("MODIFIED", "mine")]
        answer = await world.http("GET", f"{old_path}?fieldSelector=metadata.name%3Dother")
        assert answer.status == 400

    play(scenario)


def test_a_watch_begun_later_sees_the_same_events_in_the_same_order(play: Play) -> None:
    async def scenario(world: Any) -> None:
        start = version(await world.json("GET", MAPS))
        versions = [version(await create(world, f"c{n}")) for n in range(30)]
        versions += [version(await change(world, f"c{n}", data={"mutation": "1"})) for n in range(30)]
        every = [start, *versions]
        for at in every[::7]:
            stream = await watch(world, f"resourceVersion={at}")
            seen = [version((await stream.next())["object"]) for _ in [v for v in versions if v > at]]
            assert seen == [v for v in versions if v > at]

    play(scenario)


def test_bookmarks_come_every_minute_and_before_the_end(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, "a")
        stream = await watch(world, f"resourceVersion={version(made)}&allowWatchBookmarks=true&timeoutSeconds=150")
        began = world.clock.time()
        marks = []
        for _ in range(2):
            event = await stream.next()
            marks.append((event["type"], round(world.clock.time() - began)))
            assert set(event["object"]) == {"kind", "apiVersion", "metadata"}
            assert version(event["object"]) >= version(made)
        assert marks == [("BOOKMARK", 60), ("BOOKMARK", 120)]
        assert all(event["type"] == "BOOKMARK" for event in await stream.rest())
        assert round(world.clock.time() - began) == 150
        short = await watch(world, f"resourceVersion={version(made)}&allowWatchBookmarks=true&timeoutSeconds=10")
        began = world.clock.time()
        assert (await short.next())["type"] == "BOOKMARK"
        assert round(world.clock.time() - began) == 8
        assert await short.rest() == []
        assert await (await watch(world, f"resourceVersion={version(made)}&timeoutSeconds=100")).rest() == []

    play(scenario)


def test_initial_events_end_with_a_bookmark_that_says_so(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world, "a")
        explicit = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        for query in ("", "resourceVersion=0&", f"{explicit}&", f"{explicit}&resourceVersion=1&"):
            stream = await watch(world, f"{query}allowWatchBookmarks=true")
            seen = [await stream.next() for _ in range(2)]
            while seen[-1]["type"] == "ADDED":
                seen.append(await stream.next())
            assert (seen[-1]["type"], seen[-1]["object"]["metadata"]["annotations"]) == ("BOOKMARK", END), query
        quiet = await watch(world, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=5")
        assert await quiet.rest() == []
        plain = await watch(world, "timeoutSeconds=5")
        assert {event["type"] for event in await plain.rest()} == {"ADDED"}

    play(scenario)


def test_a_watch_from_too_long_ago_is_told_in_its_stream(play: Play) -> None:
    async def scenario(world: Any) -> None:
        start = version(await create(world, "a"))
        for n in range(1100):  # more than the cache's own history
            await change(world, "a", data={"mutation": f"{n + 1}"})
        resumed = await watch(world, f"resourceVersion={start}&timeoutSeconds=5")
        assert len(await resumed.rest()) == 1100
        await world.clock.sleep(2 * INTERVAL + 1)
        (event,) = await (await watch(world, f"resourceVersion={start}")).rest()
        status = event["object"]
        assert (event["type"], status["code"], status["reason"]) == ("ERROR", 410, "Expired")
        assert status["message"].startswith(f"too old resource version: {start} (")
        query = f"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={start + 10**6}"
        (event,) = await (await watch(world, query)).rest()
        assert (event["type"], event["object"]["reason"]) == ("ERROR", "Timeout")
        refused = await world.http("GET", f"{MAPS}?watch=1&resourceVersion=x")
        assert refused.status == 422

    play(scenario)


def test_a_reader_that_is_too_slow_is_cut(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, "a")
        slow = await watch(world, f"resourceVersion={version(made)}")
        await change(world, "a", data={"mutation": "first"})
        assert await slow.take(1) == [("MODIFIED", "a")]
        for n in range(LIMIT + 1):
            await change(world, "a", data={"mutation": str(n)})
        assert await slow.rest() == []

    play(scenario)


def test_watches_show_tables_and_metadata(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world, "a")
        table = await watch(world, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        event = await table.next()
        while event["object"]["rows"][0]["object"]["metadata"]["name"] != "a":
            event = await table.next()
        assert (event["object"]["kind"], event["object"]["rows"][0]["cells"][0]) == ("Table", "a")
        partial = await watch(
            world,
            "fieldSelector=metadata.name%3Da&allowWatchBookmarks=true",
            accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        )
        added, mark = await partial.next(), await partial.next()
        assert (added["object"]["kind"], "data" in added["object"]) == ("PartialObjectMetadata", False)
        assert (mark["type"], mark["object"]["metadata"]["annotations"]) == ("BOOKMARK", END)

    play(scenario)


def test_history_is_kept_where_nothing_is_compacted(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, "a")
        await change(world, "a", data={"mutation": "1"})
        await world.clock.sleep(10 * INTERVAL)
        query = f"resourceVersion={version(made)}&resourceVersionMatch=Exact"
        found = await world.json("GET", f"{MAPS}?{query}")
        assert [item["data"] for item in found["items"] if item["metadata"]["name"] == "a"] == [{"mutation": "0"}]

    play(scenario, compaction_interval_seconds=0)


def test_the_store_keeps_history_longer_than_lists_and_watches_reach_back(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world, "a")
        await change(world, "a", data={"mutation": "1"})
        key = "core/configmaps/default/a"
        await world.clock.sleep(2 * INTERVAL + 1)
        assert (await world.http("GET", f"{MAPS}?resourceVersion={version(made)}&limit=1")).status == 410
        row = await world.store.get(key, version(made))
        assert row is not None
        assert row.actor == "admin"
        await _until_compacted(world, lambda: world.store.get(key, version(made)))

    play(scenario, history_seconds=1000.0)


async def _until_compacted(world: Any, read: Callable[[], Awaitable[object]]) -> None:
    from tiphys.store.types import Compacted

    for _ in range(10):
        await create(world, f"t{world.clock.time()}")
        await world.clock.sleep(INTERVAL)
        try:
            await read()
        except Compacted:
            return
    raise AssertionError("nothing was compacted")


def test_many_watchers_share_an_events_bytes(play: Play) -> None:
    async def scenario(world: Any) -> None:
        now = version(await world.json("GET", MAPS))
        streams = [await watch(world, f"resourceVersion={now}") for _ in range(20)]
        made = await create(world, "a")
        events = await asyncio.gather(*(stream.next() for stream in streams))
        assert {version(event["object"]) for event in events} == {version(made)}

    play(scenario)
