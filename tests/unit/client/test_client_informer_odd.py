"""What an informer makes of servers that are behind, confused or broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tiphys.base.errors import Gone, InternalError
from tiphys.client.informer import Informer
from tiphys.client.resources import PODS
from tiphys.client.types import Listing, Object, WatchEvent
from tiphys.testing.clock import VirtualClock

Step = Listing | Exception | list[WatchEvent | Exception]


def pod(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def listing(version: int, *names: str) -> Listing:
    return Listing(tuple(pod(name) for name in names), str(version))


class Scripted:
    """Answers as the script says; after its end watches stay open."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.asked: list[str] = []

    async def list(self, *args: Any, **options: Any) -> Listing:
        self.asked.append("list")
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Listing)
        return step

    async def watch(self, *args: Any, resource_version: str = "", **options: Any) -> AsyncIterator[WatchEvent]:
        self.asked.append(f"watch {resource_version}")
        steps = self.script.pop(0) if self.script else []
        assert isinstance(steps, list)
        for step in steps:
            if isinstance(step, Exception):
                raise step
            yield step
        if not self.script:
            await asyncio.Event().wait()


def informed(clock: VirtualClock, seconds: float, *script: Step) -> tuple[Informer, list[tuple[str, str]], Scripted]:
    """The informer after so many seconds, with what it told and what it asked."""
    told: list[tuple[str, str]] = []
    client = Scripted(*script)

    def changed(old: Object | None, new: Object | None) -> None:
        verb = "added" if old is None else "gone" if new is None else "changed"
        told.append((verb, ((new or old) or {})["metadata"]["name"]))

    async def scenario() -> Informer:
        informer = Informer(client, PODS, clock)  # type: ignore[arg-type]  # the two calls that it makes
        informer.subscribe(changed)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(informer.run())
            await clock.sleep(seconds)
            task.cancel()
        return informer

    return clock.run(scenario()), told, client


def test_a_list_that_is_older_than_what_was_seen_deletes_nothing(clock: VirtualClock) -> None:
    gone: Step = [WatchEvent("ADDED", pod("b", 8)), Gone("compacted")]
    _, told, client = informed(clock, 60, listing(5, "a"), gone, listing(6, "a"), listing(7, "a"), listing(9, "b"))
    assert told == [("added", "a"), ("added", "b"), ("changed", "b"), ("gone", "a")]
    assert client.asked == ["list", "watch 5", "list", "list", "list", "watch 9"]


def test_a_server_that_stays_behind_is_believed_at_last(clock: VirtualClock) -> None:
    restored = [listing(2, "a")] * 6
    informer, told, _ = informed(clock, 600, listing(5, "a", "b"), [Gone("compacted")], *restored)
    assert told == [("added", "a"), ("added", "b"), ("gone", "b")]
    assert informer.revision == 2


def test_objects_without_a_name_are_left_out(clock: VirtualClock) -> None:
    odd: list[Any] = [{}, {"metadata": None}, {"metadata": {}}, pod("a")]
    events: Step = [WatchEvent("ADDED", each) for each in (*odd[:3], pod("b", 9))]
    informer, told, _ = informed(clock, 5, Listing(tuple(odd), "5"), events)
    assert told == [("added", "a"), ("added", "b")]
    assert informer.revision == 9


@pytest.mark.parametrize("fault", [InternalError("broken"), OSError("cut"), ValueError("no JSON"), RuntimeError("odd")])
def test_no_answer_ends_it(clock: VirtualClock, fault: Exception) -> None:
    informer, told, client = informed(
        clock,
        60,
        fault,
        listing(5, "a"),
        [WatchEvent("MODIFIED", pod("a", 6)), fault],
        [WatchEvent("DELETED", pod("a", 7))],
    )
    assert told == [("added", "a"), ("changed", "a"), ("gone", "a")]
    assert client.asked == ["list", "list", "watch 5", "watch 6"]
    assert len(informer) == 0


def test_a_bookmark_moves_on_what_the_next_watch_starts_from(clock: VirtualClock) -> None:
    mark: Step = [WatchEvent("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "40"}}), OSError("cut")]
    _, told, client = informed(clock, 60, listing(5, "a"), mark)
    assert told == [("added", "a")]
    assert client.asked == ["list", "watch 5", "watch 40"]


def test_an_object_made_anew_while_nobody_looked_is_told_as_two(clock: VirtualClock) -> None:
    anew = {"metadata": {"name": "a", "uid": "another", "resourceVersion": "9"}}
    _, told, _ = informed(clock, 60, listing(5, "a"), [Gone("compacted")], Listing((anew,), "9"))
    assert told == [("added", "a"), ("gone", "a"), ("added", "a")]


def test_a_failing_subscriber_does_not_starve_the_others(clock: VirtualClock) -> None:
    told: list[str] = []

    def fails(old: Object | None, new: Object | None) -> None:
        raise RuntimeError("mine")

    async def scenario() -> None:
        informer = Informer(Scripted(listing(5, "a")), PODS, clock)  # type: ignore[arg-type]  # all it calls
        informer.subscribe(fails)
        informer.subscribe(lambda old, new: told.append("told"))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(informer.run())
            await clock.sleep(1)
            task.cancel()

    clock.run(scenario())
    assert told == ["told"]
