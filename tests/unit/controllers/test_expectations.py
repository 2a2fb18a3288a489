"""Own writes are waited for until the cache shows them, or shows that they are history."""

from __future__ import annotations

from typing import Any

from tiphys.client.informer import Informer
from tiphys.client.resources import PODS
from tiphys.controllers.expectations import Expectations


class Hands:
    """A clock that is moved by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def pod(name: str, revision: int, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(revision), **meta}}


class World:
    def __init__(self) -> None:
        self.clock = Hands()
        self.informer = Informer(None, PODS, self.clock)  # type: ignore[arg-type]  # nothing is fetched
        self.expectations = Expectations(self.informer, self.clock)

    def show(self, old: Any, new: Any) -> None:
        self.informer.store(f"ns/{(new or old)['metadata']['name']}", new)
        self.informer._tell(old, new)


def test_a_creation_is_waited_for_until_it_is_shown() -> None:
    world = World()
    world.expectations.creation("k", pod("a", 5))
    assert not world.expectations.satisfied("k")
    assert world.expectations.satisfied("other")
    world.show(None, pod("b", 4))
    assert not world.expectations.satisfied("k")
    world.show(None, pod("a", 5))
    assert world.expectations.satisfied("k")


def test_what_the_cache_shows_already_is_not_waited_for() -> None:
    world = World()
    world.show(None, pod("a", 5))
    world.expectations.creation("k", pod("a", 5))
    assert world.expectations.satisfied("k")


def test_a_creation_that_was_undone_unseen_is_history_when_something_later_is_shown() -> None:
    world = World()
    world.expectations.creation("k", pod("a", 5))
    world.show(None, pod("b", 6))
    assert world.expectations.satisfied("k")


def test_a_deletion_is_waited_for_until_it_has_begun_or_failed() -> None:
    world = World()
    there = pod("a", 1)
    world.show(None, there)
    world.expectations.deletion("k", there)
    world.show(there, pod("a", 2))
    assert not world.expectations.satisfied("k")
    world.show(there, pod("a", 3, deletionTimestamp="t"))
    assert world.expectations.satisfied("k")
    world.expectations.deletion("k", there)
    world.expectations.withdraw("k", there)
    assert world.expectations.satisfied("k")


def test_after_five_minutes_nothing_is_waited_for_any_more() -> None:
    world = World()
    world.expectations.creation("k", pod("a", 5))
    world.clock.now = 299.0
    assert not world.expectations.satisfied("k")
    world.clock.now = 300.0
    assert world.expectations.satisfied("k")
