"""LIST, its pages and versions; WATCH from now, from a version, with initial events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import orjson

from tiphys.client.types import Resource

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"
RESOURCE = Resource("", "v1", "configmaps")
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


async def events(response: Any, count: int) -> list[dict[str, Any]]:
    """The first events of a watch; then it is closed."""
    found: list[dict[str, Any]] = []
    async with aclosing(response.stream) as stream:
        async for chunk in stream:
            found += [orjson.loads(line) for line in chunk.splitlines()]
            if len(found) >= count:
                break
    return found


def brief(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in found]


def test_pages_show_one_moment_whatever_happens_meanwhile(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name in "abcd":
            await world.http("POST", MAPS, config_map(name))
        first = await world.json("GET", f"{MAPS}?limit=2")
        assert first["metadata"]["remainingItemCount"] == 2
        await world.http("DELETE", f"{MAPS}/c")
        await world.http("POST", MAPS, config_map("e"))
        rest = await world.json("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
        assert [item["metadata"]["name"] for item in rest["items"]] == ["c", "d"]
        assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        assert "continue" not in rest["metadata"]

    play(scenario)


def test_an_expired_page_says_how_to_go_on(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name in "abc":
            await world.http("POST", MAPS, config_map(name))
        first = await world.json("GET", f"{MAPS}?limit=1")
        await world.http("DELETE", f"{MAPS}/b")
        await world.store.compact(await world.store.revision())
        gone = await world.json("GET", f"{MAPS}?limit=1&continue={first['metadata']['continue']}")
        assert (gone["code"], gone["reason"]) == (410, "Expired")
        rest = await world.json("GET", f"{MAPS}?continue={gone['metadata']['continue']}")
        assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]

    play(scenario)


def test_an_exact_version_is_read_from_the_past(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.json("POST", MAPS, config_map("a"))
        await world.http("DELETE", f"{MAPS}/a")
        version = made["metadata"]["resourceVersion"]
        past = await world.json("GET", f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")
        assert [item["metadata"]["name"] for item in past["items"]] == ["a"]

    play(scenario)


def test_a_version_from_the_future_times_out(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.json("GET", f"{MAPS}?resourceVersion=99999999")
        assert answer["code"] == 504
        assert answer["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"

    play(scenario)


def test_unknown_field_selectors_are_refused(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.json("GET", f"{MAPS}?fieldSelector=spec.foo%3D1")
        assert (answer["code"], answer["reason"]) == (400, "BadRequest")

    play(scenario)


def test_a_watch_from_a_version_misses_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.json("POST", MAPS, config_map("a"))
        await world.http("POST", MAPS, config_map("b"))
        response = await world.http("GET", f"{MAPS}?watch=1&resourceVersion={made['metadata']['resourceVersion']}")
        await world.http("DELETE", f"{MAPS}/a")
        assert brief(await events(response, 2)) == [("ADDED", "b"), ("DELETED", "a")]

    play(scenario)


def test_initial_events_end_with_a_bookmark(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, config_map("a"))
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        response = await world.http("GET", f"{MAPS}?{query}")
        found = await events(response, 2)
        assert brief(found) == [("ADDED", "a"), ("BOOKMARK", "")]
        assert found[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    play(scenario)


def test_bookmarks_come_once_a_minute_to_those_who_allow_them(play: Play) -> None:
    async def scenario(world: Any) -> None:
        version = (await world.json("GET", MAPS))["metadata"]["resourceVersion"]
        response = await world.http("GET", f"{MAPS}?watch=1&resourceVersion={version}&allowWatchBookmarks=true")
        await world.http("POST", "/api/v1/namespaces/default/secrets", {"kind": "Secret", "metadata": {"name": "s"}})
        start = world.clock.monotonic()
        (bookmark,) = await events(response, 1)
        assert bookmark["type"] == "BOOKMARK"
        assert int(bookmark["object"]["metadata"]["resourceVersion"]) > int(version)
        assert world.clock.monotonic() - start == 60

    play(scenario)


def test_a_watch_ends_when_its_time_is_up(play: Play) -> None:
    async def scenario(world: Any) -> None:
        response = await world.http("GET", f"{MAPS}?watch=1&resourceVersion=0&timeoutSeconds=5")
        start = world.clock.monotonic()
        assert [chunk async for chunk in response.stream] == []
        assert world.clock.monotonic() - start == 5

    play(scenario)


def test_objects_enter_and_leave_a_selection(play: Play) -> None:
    async def scenario(world: Any) -> None:
        version = (await world.json("GET", MAPS))["metadata"]["resourceVersion"]
        response = await world.http("GET", f"{MAPS}?watch=1&labelSelector=x%3D1&resourceVersion={version}")
        await world.http("POST", MAPS, config_map("a"))
        await world.http("PUT", f"{MAPS}/a", config_map("a", x="1"))
        await world.http("PUT", f"{MAPS}/a", config_map("a", x="2"))
        assert brief(await events(response, 2)) == [("ADDED", "a"), ("DELETED", "a")]

    play(scenario)


def test_a_watch_from_a_compacted_version_tells_that_it_expired(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name in "ab":
            await world.http("POST", MAPS, config_map(name))
        cache = world.server.reader.of("", "configmaps")
        cache.floor = await world.store.revision()
        await world.store.compact(cache.floor)
        (error,) = await events(await world.http("GET", f"{MAPS}?watch=1&resourceVersion=1"), 1)
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")

    play(scenario)


def test_what_the_cache_forgot_is_read_from_the_log(play: Play) -> None:
    async def scenario(world: Any) -> None:
        version = (await world.json("GET", MAPS))["metadata"]["resourceVersion"]
        await world.http("POST", MAPS, config_map("a"))
        await world.http("DELETE", f"{MAPS}/a")
        world.server.reader.of("", "configmaps").floor = await world.store.revision()
        response = await world.http("GET", f"{MAPS}?watch=1&resourceVersion={version}")
        reading = asyncio.ensure_future(events(response, 3))  # noqa: TID251 - the test is the one who waits
        await world.clock.sleep(1)
        await world.http("POST", MAPS, config_map("b"))
        assert brief(await reading) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b")]

    play(scenario)


def test_tables_are_watched_as_tables(play: Play) -> None:
    async def scenario(world: Any) -> None:
        version = (await world.json("GET", MAPS))["metadata"]["resourceVersion"]
        response = await world.http("GET", f"{MAPS}?watch=1&resourceVersion={version}", accept=TABLE)
        await world.http("POST", MAPS, config_map("a"))
        (event,) = await events(response, 1)
        assert event["object"]["kind"] == "Table"
        assert event["object"]["rows"][0]["cells"][0] == "a"

    play(scenario)


def test_local_clients_share_decoded_objects(play: Play) -> None:
    async def scenario(world: Any) -> None:
        client = world.client
        await client.create(RESOURCE, config_map("a"), "default")
        first = await client.get(RESOURCE, "a", "default")
        listed = (await client.list(RESOURCE, "default", labels="")).items
        assert any(item is first for item in listed)
        watch = client.watch(RESOURCE, "default", resource_version=first["metadata"]["resourceVersion"])
        await client.delete(RESOURCE, "a", "default")
        event = await anext(watch)
        assert (event.type, event.object["metadata"]["name"]) == ("DELETED", "a")
        await watch.aclose()

    play(scenario)


def test_pods_of_a_node_are_listed_by_the_index(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1")):
            spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            await world.http("POST", "/api/v1/namespaces/default/pods", body)
        found = await world.json("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        assert [item["metadata"]["name"] for item in found["items"]] == ["a", "c"]

    play(scenario)


def test_events_expire_an_hour_after_their_last_write(play: Play) -> None:
    async def scenario(world: Any) -> None:
        about = {"kind": "Pod", "name": "p", "namespace": "default"}
        body = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about}
        path = "/api/v1/namespaces/default/events"
        await world.http("POST", path, body)
        await world.clock.sleep(3599)
        assert (await world.http("GET", f"{path}/e")).status == 200
        await world.clock.sleep(2)
        assert (await world.http("GET", f"{path}/e")).status == 404

    play(scenario)
