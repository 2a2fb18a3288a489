"""Watches of ConfigMaps by labels: what enters, changes and leaves, from now or from where another watch ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.client.resources import CONFIG_MAPS
from tiphys.client.streams import closing

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"


async def create(world: Any, name: str, label: str) -> Any:
    meta = {"name": name, "labels": {"watched": label}}
    return await world.ok("POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})


async def mutate(world: Any, name: str, value: str) -> Any:
    return await world.patch(f"{MAPS}/{name}", {"data": {"mutation": value}})


async def seen(world: Any, labels: str, since: str, count: int) -> list[tuple[str, str, str | None]]:
    """The first events of a watch, as (type, name, mutation)."""
    found: list[tuple[str, str, str | None]] = []
    watch = world.cluster.client.watch(CONFIG_MAPS, "default", labels=labels, resource_version=since)
    async with closing(watch) as stream:
        async for event in stream:
            if event.type != "BOOKMARK":
                value = (event.object.get("data") or {}).get("mutation")
                found.append((event.type, event.object["metadata"]["name"], value))
            if len(found) == count:
                break
    return found


async def now(world: Any) -> str:
    return str((await world.ok("GET", MAPS))["metadata"]["resourceVersion"])


def test_additions_changes_and_deletions_are_seen_by_those_whose_labels_match(play: Play) -> None:
    async def scenario(world: Any) -> None:
        start = await now(world)
        await create(world, "a", "A")
        await mutate(world, "a", "1")
        await mutate(world, "a", "2")
        await world.ok("DELETE", f"{MAPS}/a")
        await create(world, "b", "B")
        await world.ok("DELETE", f"{MAPS}/b")
        of_a = [("ADDED", "a", None), ("MODIFIED", "a", "1"), ("MODIFIED", "a", "2"), ("DELETED", "a", "2")]
        of_b = [("ADDED", "b", None), ("DELETED", "b", None)]
        assert await seen(world, "watched=A", start, 4) == of_a
        assert await seen(world, "watched=B", start, 2) == of_b
        assert await seen(world, "watched in (A,B)", start, 6) == of_a + of_b

    play(scenario, controllers="", nodes=0)


def test_a_watch_starts_at_a_version_and_goes_on_where_another_ended(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world, "a", "A")
        first = await mutate(world, "a", "1")
        await mutate(world, "a", "2")
        await world.ok("DELETE", f"{MAPS}/a")
        since = first["metadata"]["resourceVersion"]
        assert await seen(world, "watched=A", since, 2) == [("MODIFIED", "a", "2"), ("DELETED", "a", "2")]

    play(scenario, controllers="", nodes=0)


def test_what_leaves_a_selection_is_deleted_and_what_comes_back_is_added(play: Play) -> None:
    async def scenario(world: Any) -> None:
        start = await now(world)
        await create(world, "a", "A")
        await mutate(world, "a", "1")
        await world.patch(f"{MAPS}/a", {"metadata": {"labels": {"watched": "other"}}})
        await mutate(world, "a", "2")
        await world.patch(f"{MAPS}/a", {"metadata": {"labels": {"watched": "A"}}})
        await mutate(world, "a", "3")
        await world.ok("DELETE", f"{MAPS}/a")
        assert await seen(world, "watched=A", start, 6) == [
            ("ADDED", "a", None),
            ("MODIFIED", "a", "1"),
            ("DELETED", "a", "1"),
            ("ADDED", "a", "2"),
            ("MODIFIED", "a", "3"),
            ("DELETED", "a", "3"),
        ]

    play(scenario, controllers="", nodes=0)


def test_watches_that_begin_at_every_version_see_the_rest_in_the_same_order(play: Play) -> None:
    async def scenario(world: Any) -> None:
        start = await now(world)
        versions = [start]
        for number in range(10):
            made = await create(world, f"m{number}", "A")
            versions.append(made["metadata"]["resourceVersion"])
        everything = await seen(world, "watched=A", start, 10)
        for gone, version in enumerate(versions[:-1]):
            assert await seen(world, "watched=A", version, 10 - gone) == everything[gone:]

    play(scenario, controllers="", nodes=0)
