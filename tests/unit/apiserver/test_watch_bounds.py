"""What waits for a watcher, and what the cache remembers, is bounded by number and by bytes."""

from __future__ import annotations

import orjson

from tiphys.apiserver.cache import HISTORY_BYTES, ResourceCache
from tiphys.apiserver.entries import Stored
from tiphys.apiserver.watcher import LIMIT_BYTES, Watcher
from tiphys.store.types import Event, Row

MAPS = Stored("", "configmaps", "ConfigMap", "v1", True)


def event(revision: int, size: int) -> Event:
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"c{revision}"}, "data": {"x": "x" * size}}
    return Event(Row(f"core/configmaps/a/c{revision}", orjson.dumps(body), revision, revision), None)


def test_a_watcher_of_large_objects_is_cut_early() -> None:
    cache, watcher = ResourceCache(MAPS), Watcher(0)
    cache.subscribe(watcher)
    for revision in range(1, LIMIT_BYTES // 1_000_000):
        cache.apply(event(revision, 1_000_000))
    assert not watcher.closed
    assert len(watcher.taken()) == LIMIT_BYTES // 1_000_000 - 1
    for revision in range(100, 100 + LIMIT_BYTES // 1_000_000 + 2):
        cache.apply(event(revision, 1_000_000))
    assert (watcher.closed, watcher.taken(), list(cache.watchers())) == (True, [], [])


def test_one_object_of_any_size_is_delivered() -> None:
    cache, watcher = ResourceCache(MAPS), Watcher(0)
    cache.subscribe(watcher)
    cache.apply(event(1, LIMIT_BYTES + 1))
    assert [type for type, _ in watcher.taken()] == ["ADDED"]


def test_the_cache_remembers_few_large_changes_and_more_small_ones() -> None:
    cache = ResourceCache(MAPS)
    for revision in range(1, 31):
        cache.apply(event(revision, 1_000_000))
    kept = [change.revision for change in cache.history(0)]
    assert len(kept) == HISTORY_BYTES // 1_000_000
    assert cache.floor == kept[0] - 1
    for revision in range(31, 31 + MAPS.remembered + 10):
        cache.apply(event(revision, 10))
    assert len(cache.history(0)) == MAPS.remembered
