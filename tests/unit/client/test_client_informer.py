from __future__ import annotations

import asyncio
from typing import Any

from tiphys.base.errors import InternalError
from tiphys.client.informer import Informer, InformerFactory, index_by_field, key_of
from tiphys.client.resources import PODS


def pod(name: str, node: str = "", **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": {"nodeName": node},
    }


class Seen(list[tuple[str, str]]):
    def __call__(self, old: Any, new: Any) -> None:
        verb = "added" if old is None else "deleted" if new is None else "updated"
        self.append((verb, key_of(new or old)))


def test_lists_then_watches_and_tells_subscribers_in_order(run: Any, client: Any, clock: Any) -> None:
    async def scenario() -> Seen:
        seen = Seen()
        await client.create(PODS, pod("a"))
        async with InformerFactory(client, clock) as informers:
            informer = informers.get(PODS)
            informer.subscribe(seen)
            await informer.wait_synced()
            await client.create(PODS, pod("b"))
            await client.update(PODS, pod("a", node="n1"))
            await client.delete(PODS, "b", "default")
            await clock.sleep(1)
            assert [key_of(obj) for obj in informer.list("default")] == ["default/a"]
        return seen

    assert run(scenario()) == [
        ("added", "default/a"),
        ("added", "default/b"),
        ("updated", "default/a"),
        ("deleted", "default/b"),
    ]


def test_when_the_revision_is_gone_it_lists_again_and_tells_what_changed_meanwhile(
    run: Any, client: Any, server: Any, clock: Any
) -> None:
    async def scenario() -> Seen:
        seen = Seen()
        for name in "abc":
            await client.create(PODS, pod(name))
        informer = Informer(client, PODS, clock)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(informer.run())
            await informer.wait_synced()
            task.cancel()
        informer.subscribe(seen)
        seen.clear()
        await client.delete(PODS, "a", "default")
        await client.update(PODS, pod("b", node="n1"))
        await client.delete(PODS, "c", "default")
        await client.create(PODS, pod("c", uid="another"))
        server.oldest = server.revision
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(informer.run())
            await clock.sleep(5)
            task.cancel()
        return seen

    assert sorted(run(scenario())) == [
        ("added", "default/c"),
        ("deleted", "default/a"),
        ("deleted", "default/c"),
        ("updated", "default/b"),
    ]


def test_errors_are_waited_out_with_growing_delays(run: Any, client: Any, server: Any, clock: Any) -> None:
    async def scenario() -> float:
        server.fail = [InternalError("broken")] * 3
        async with InformerFactory(client, clock) as informers:
            await informers.get(PODS).wait_synced()
        return float(clock.monotonic())

    assert 0.8 + 1.6 + 3.2 <= run(scenario()) <= 2 * (0.8 + 1.6 + 3.2)


def test_indexes_follow_changes(run: Any, client: Any, clock: Any) -> None:
    async def scenario() -> None:
        async with InformerFactory(client, clock) as informers:
            informer = informers.get(PODS)
            informer.add_index("node", index_by_field("spec", "nodeName"))
            await client.create(PODS, pod("a"))
            await clock.sleep(0)
            await client.update(PODS, pod("a", node="n1"))
            await clock.sleep(1)
            assert [key_of(obj) for obj in informer.by_index("node", "n1")] == ["default/a"]
            await client.update(PODS, pod("a", node="n2"))
            await clock.sleep(1)
            assert informer.by_index("node", "n1") == []

    run(scenario())


def test_one_informer_for_everybody_who_asks_for_the_same(client: Any, clock: Any) -> None:
    informers = InformerFactory(client, clock)
    assert informers.get(PODS) is informers.get(PODS)
    assert informers.get(PODS) is not informers.get(PODS, fields="spec.nodeName=n1")


def test_items_of_typed_lists_get_the_kind_of_their_list(run: Any, client: Any, server: Any) -> None:
    async def scenario() -> Any:
        server.write("ADDED", PODS.path("default", "bare"), {"metadata": {"name": "bare", "namespace": "default"}})
        return (await client.list(PODS, "default")).items[0]

    item = run(scenario())
    assert (item["apiVersion"], item["kind"]) == ("v1", "Thing")


def test_what_a_caller_hands_over_is_copied(run: Any, client: Any, server: Any) -> None:
    mine = pod("a", labels={"x": "y"})
    run(client.create(PODS, mine))
    received = server.requests[0].obj
    assert received == mine
    assert received["metadata"]["labels"] is not mine["metadata"]["labels"]
