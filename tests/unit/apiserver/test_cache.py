"""The watch cache: entries, order, index, history, and what watchers of it see."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tiphys.apiserver import codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import HISTORY, Change, Stored
from tiphys.apiserver.watcher import LIMIT, Watcher
from tiphys.store.types import Event, Row

PODS = Stored("", "pods", "Pod", "v1", True, lambda obj: str((obj.get("spec") or {}).get("nodeName") or ""))


def value(name: str, node: str = "", **labels: str) -> bytes:
    obj: dict[str, Any] = {"metadata": {"name": name, "namespace": "a", "labels": labels}, "spec": {"nodeName": node}}
    return codec.encode(obj, "Pod", "v1")


def write(cache: ResourceCache, revision: int, name: str, node: str = "", **labels: str) -> None:
    key = PODS.key("a", name)
    old = cache.at(key)
    previous = Row(key, b"{}", old.revision, old.created) if old is not None else None
    created = old.created if old is not None else revision
    cache.apply(Event(Row(key, value(name, node, **labels), revision, created), previous))


def remove(cache: ResourceCache, revision: int, name: str) -> None:
    key = PODS.key("a", name)
    old = cache.at(key)
    assert old is not None
    cache.apply(Event(Row(key, b"", revision, old.created), Row(key, value(name), old.revision, old.created), True))


def seen(watcher: Watcher) -> list[tuple[str, str]]:
    return [(type, what.entry.name) for type, what in watcher.taken() if isinstance(what, Change)]


def test_an_entry_has_the_resource_version_and_no_kind_in_its_bytes() -> None:
    cache = ResourceCache(PODS)
    write(cache, 5, "p")
    entry = cache.get("a", "p")
    assert entry is not None
    assert orjson.loads(entry.item)["metadata"]["resourceVersion"] == "5"
    assert "kind" not in orjson.loads(entry.item)
    assert cache.obj(entry)["kind"] == "Pod"
    assert cache.obj(entry) is cache.obj(entry)


def test_ranges_are_in_key_order_and_can_go_on_after_a_key() -> None:
    cache = ResourceCache(PODS)
    for revision, name in enumerate(("c", "a", "b"), 1):
        write(cache, revision, name)
    assert [entry.name for entry in cache.range("a")] == ["a", "b", "c"]
    assert [entry.name for entry in cache.range("a", PODS.key("a", "a"))] == ["b", "c"]
    assert cache.range("b") == []


def test_the_index_follows_a_pod_to_its_node() -> None:
    cache = ResourceCache(PODS)
    write(cache, 1, "p")
    assert cache.triggered("n1") == []
    write(cache, 2, "p", "n1")
    assert [entry.name for entry in cache.triggered("n1")] == ["p"]
    remove(cache, 3, "p")
    assert cache.triggered("n1") == []


def test_a_watcher_of_one_node_is_told_of_its_pods_only() -> None:
    cache = ResourceCache(PODS)
    watcher = Watcher(0, trigger="n1", match=lambda entry: entry.trigger == "n1")
    cache.subscribe(watcher)
    write(cache, 1, "p")
    write(cache, 2, "p", "n1")
    write(cache, 3, "q", "n2")
    assert seen(watcher) == [("ADDED", "p")]


def test_entering_and_leaving_a_selection_are_told_as_added_and_deleted() -> None:
    cache = ResourceCache(PODS)
    watcher = Watcher(0, match=lambda entry: cache.obj(entry)["metadata"]["labels"].get("x") == "1")
    cache.subscribe(watcher)
    write(cache, 1, "p")
    write(cache, 2, "p", x="1")
    write(cache, 3, "p", x="1", y="2")
    write(cache, 4, "p", x="2")
    remove(cache, 5, "p")
    items = watcher.taken()
    assert [type for type, _ in items] == ["ADDED", "MODIFIED", "DELETED"]
    left = items[2][1]
    assert isinstance(left, Change)
    shown = cache.obj(left.subject("DELETED"))
    assert (shown["metadata"]["resourceVersion"], shown["metadata"]["labels"]) == ("4", {"x": "1", "y": "2"})


def test_a_deleted_object_is_shown_as_it_was_at_the_deletions_revision() -> None:
    cache = ResourceCache(PODS)
    watcher = Watcher(0)
    write(cache, 1, "p")
    cache.subscribe(watcher)
    remove(cache, 2, "p")
    ((type, change),) = watcher.taken()
    assert type == "DELETED"
    assert isinstance(change, Change)
    assert cache.obj(change.entry)["metadata"]["resourceVersion"] == "2"


def test_history_is_bounded_and_says_how_far_it_reaches_back() -> None:
    cache = ResourceCache(PODS)
    for revision in range(1, HISTORY + 11):
        write(cache, revision, "p")
    assert cache.floor == 10
    assert [change.revision for change in cache.history(HISTORY + 8)] == [HISTORY + 9, HISTORY + 10]


def test_a_slow_watcher_is_cut() -> None:
    watcher = Watcher(0)
    cache = ResourceCache(PODS)
    cache.subscribe(watcher)
    for revision in range(1, LIMIT + 2):
        write(cache, revision, "p")
    assert watcher.closed
    assert asyncio.run(watcher.next()) == []
    assert list(cache.watchers()) == []


def test_all_watchers_share_one_events_bytes() -> None:
    cache = ResourceCache(PODS)
    first, second = Watcher(0), Watcher(0)
    cache.subscribe(first)
    cache.subscribe(second)
    write(cache, 1, "p")
    changes = [watcher.taken()[0][1] for watcher in (first, second)]
    assert changes[0] is changes[1]
    assert isinstance(changes[0], Change)
    rendered = changes[0].form(("ADDED", "plain"), lambda type, entry: entry.item)
    assert changes[0].form(("ADDED", "plain"), lambda type, entry: b"") is rendered
