"""What other people's clients send and expect: Python's booleans in queries, bodies that end in a newline, JSON that
people can read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import orjson
import pytest

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize("query", ["watch=True", "watch=1", "watch=", "watch", "watch=yes"])
def test_whatever_does_not_say_no_is_a_watch(play: Play, query: str) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, MAP)
        answer = await world.http("GET", f"{MAPS}?{query}&allowWatchBookmarks=True")
        async with aclosing(answer.stream) as stream:
            first = orjson.loads((await anext(stream)).splitlines()[0])
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")

    play(scenario)


@pytest.mark.parametrize("query", ["watch=False", "watch=0", "watch=FALSE", "allowWatchBookmarks=True"])
def test_a_watch_that_is_declined_is_a_list(play: Play, query: str) -> None:
    async def scenario(world: Any) -> None:
        assert (await world.json("GET", f"{MAPS}?{query}"))["kind"] == "ConfigMapList"

    play(scenario)


def test_initial_events_are_sent_to_those_who_say_true_as_python_does(play: Play) -> None:
    async def scenario(world: Any) -> None:
        options = "watch=True&sendInitialEvents=True&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=True"
        answer = await world.http("GET", f"{MAPS}?{options}")
        async with aclosing(answer.stream) as stream:
            first = orjson.loads((await anext(stream)).splitlines()[0])
        assert first["type"] == "BOOKMARK"

    play(scenario)


def test_orphans_are_left_by_those_who_say_true_as_python_does(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, MAP)
        held = await world.json("DELETE", f"{MAPS}/a?orphanDependents=True")
        assert held["metadata"]["finalizers"] == ["orphan"]

    play(scenario)


@pytest.mark.parametrize("accept", ["application/json", TABLE, PARTIAL, "application/yaml"])
@pytest.mark.parametrize("path", [MAPS, f"{MAPS}/a", f"{MAPS}/none", "/api", "/apis", "/apis/apps/v1", "/nowhere"])
def test_answers_end_in_one_newline(play: Play, path: str, accept: str) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, MAP)
        body = (await world.http("GET", path, accept=accept)).body
        assert body.endswith(b"\n")
        assert not body.endswith(b"\n\n")

    play(scenario)


def test_lists_of_nothing_and_refused_writes_end_in_a_newline_too(play: Play) -> None:
    async def scenario(world: Any) -> None:
        assert (await world.http("GET", MAPS)).body.endswith(b'"items":[]}\n')
        assert (await world.http("POST", MAPS, MAP)).body.endswith(b"}}\n")
        assert (await world.http("POST", MAPS, MAP)).body.endswith(b'"code":409}\n')

    play(scenario)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?pretty=true", {}),
        ("?pretty=1", {"user_agent": "kubectl/v1.36.0"}),
        ("", {"user_agent": "curl/7.88.1"}),
        ("", {"user_agent": "Mozilla/5.0 (X11)"}),
        ("", {"accept": "application/json;pretty=1"}),
    ],
)
@pytest.mark.parametrize("path", [MAPS, f"{MAPS}/a", f"{MAPS}/none", "/apis"])
def test_people_get_indented_json(play: Play, path: str, query: str, headers: dict[str, str]) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, MAP)
        pretty = (await world.http("GET", path + query, **headers)).body
        assert pretty.startswith(b'{\n  "')
        assert pretty.endswith(b"\n}")
        assert orjson.loads(pretty) == await world.json("GET", path)

    play(scenario)


def test_programs_that_decline_get_one_line(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = (await world.http("GET", f"{MAPS}?pretty=false", user_agent="curl/7.88.1")).body
        assert body.count(b"\n") == 1

    play(scenario)


def test_events_of_a_watch_stay_on_one_line(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, MAP)
        answer = await world.http("GET", f"{MAPS}?watch=true&pretty=true", user_agent="curl/7.88.1")
        async with aclosing(answer.stream) as stream:
            assert (await anext(stream)).count(b"\n") == 1

    play(scenario)


@pytest.mark.parametrize(("version", "status"), [("v1", 201), ("0", 201), ("5", 400), ("99999999999999999999", 201)])
def test_only_a_number_is_a_version_that_a_new_object_may_not_have(play: Play, version: str, status: int) -> None:
    async def scenario(world: Any) -> None:
        one = {**MAP, "metadata": {"name": "a", "resourceVersion": version}}
        assert (await world.http("POST", MAPS, one)).status == status

    play(scenario)
