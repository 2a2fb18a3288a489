"""GET, LIST and the start of WATCH: which entries, as of which revision (API reference, "Resource versions").

The watch cache holds every acknowledged write, so the most recent state is read from memory without asking the store.
The store is only read for the past: an exact revision, or the next page of a list begun earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiphys.api import errors
from tiphys.apiserver import listoptions
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.listoptions import EXACT, ListOptions
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.apiserver.selection import Selection
from tiphys.apiserver.watcher import Watcher
from tiphys.apiserver.watching import Start
from tiphys.base.errors import ApiError, Gone, Timeout
from tiphys.store.types import Compacted, Store

WAIT_SECONDS = 3.0
"""How long a read waits for a revision that has not been written yet."""
LIST_TOO_OLD = "The resourceVersion for the provided list is too old."
PAGE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Listed:
    """Entries and the list's metadata."""

    entries: Sequence[Entry]
    metadata: dict[str, Any]


async def get(parts: Parts, call: Call, name: str, version: str = "") -> Entry:
    """One object. Raises NotFound; Timeout when `version` is in the future."""
    if version and version != "0":
        await wait(parts, ListOptions(version=version).revision)
    entry = call.resource.cache.get(call.namespace, name)
    if entry is None:
        raise errors.not_found(call.resource.group, call.resource.plural, name)
    return entry


async def wait(parts: Parts, revision: int) -> None:
    """Until the cache shows `revision`. Raises Timeout, as upstream for "too large" versions."""
    if not await parts.caches.wait(revision, WAIT_SECONDS):
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        text = f"Timeout: Too large resource version: {revision}, current: {parts.caches.current}"
        raise Timeout(text, details={"causes": [cause]}, retry_after=1)


async def list_(parts: Parts, store: Store, call: Call, options: ListOptions, selection: Selection) -> Listed:
    """A list or a page of one. Raises Gone, Timeout, BadRequest."""
    cache = call.resource.cache
    revision, after = (0 if options.token else options.revision), ""
    if options.version == "0":
        options = replace(options, limit=0)  # as upstream: what any cache has is shown at once
    if options.token:
        after, revision = listoptions.read_token(options, _prefix(call))
        if revision > 0:
            return await _past(parts, store, call, options, selection, revision, after)
        revision = 0
    elif options.match == EXACT or (options.limit and not options.match and revision):
        return await _past(parts, store, call, options, selection, revision, "")
    if revision:
        await wait(parts, revision)
    if call.resource.converts and selection.filters:
        await call.resource.ready(cache.range(call.namespace))
    return _page(call, selection, selection.entries(cache, after), parts.caches.current, options.limit)


def _prefix(call: Call) -> str:
    """What the keys of a list start with."""
    return call.resource.cache.stored.prefix + (f"{call.namespace}/" if call.namespace else "")


def _page(
    call: Call, selection: Selection, entries: Sequence[Entry], revision: int, limit: int, last: str | None = None
) -> Listed:
    """The first `limit` of the selected entries, and how to go on. `last` is the last key there is, selected or not."""
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if not limit or len(entries) < limit:
        return Listed(entries, metadata)
    shown = entries[:limit]
    # As upstream, there is a next page whenever there is another object, whether it is selected or not.
    if last is None:
        last = selection.last(call.resource.cache) if selection.filters else entries[-1].key
    if shown[-1].key < last:
        metadata["continue"] = listoptions.token(shown[-1].key, _prefix(call), revision)
        if not selection.filters:
            metadata["remainingItemCount"] = len(entries) - limit
    return Listed(shown, metadata)


async def _past(
    parts: Parts, store: Store, call: Call, options: ListOptions, selection: Selection, revision: int, after: str
) -> Listed:
    """As of an exact revision: from the cache if nothing has changed since, else from the store."""
    cache = call.resource.cache
    await wait(parts, revision)
    prefix = _prefix(call)
    if revision < parts.caches.horizon:
        raise _too_old(options, after, prefix)
    if cache.last_revision <= revision:
        return _page(call, selection, selection.entries(cache, after), revision, options.limit)
    narrow = bool(selection.filters or selection.name)
    try:
        page = await store.list(prefix, revision=revision, after=after, limit=0 if narrow else options.limit)
    except Compacted:
        raise _too_old(options, after, prefix) from None
    entries = [cache.entry_of(row) for row in page.rows]
    if narrow:
        if call.resource.converts:
            await call.resource.ready(entries)
        found = [entry for entry in entries if selection.matches(entry)]
        return _page(call, selection, found, revision, options.limit, entries[-1].key if entries else "")
    listed = Listed(entries, {"resourceVersion": str(revision)})
    if page.remaining:
        listed.metadata["continue"] = listoptions.token(entries[-1].key, prefix, revision)
        listed.metadata["remainingItemCount"] = page.remaining
    return listed


def _too_old(options: ListOptions, after: str, prefix: str) -> ApiError:
    if not options.token:
        return Gone(LIST_TOO_OLD)
    error = Gone(PAGE_TOO_OLD)
    error.metadata = {"continue": listoptions.token(after, prefix, -1)}
    return error


async def watch(parts: Parts, call: Call, options: ListOptions, selection: Selection) -> Start:
    """Where a watch begins. Raises Invalid; what else is wrong is told in the stream."""
    revision = options.watched(call.resource.group, call.resource.plural)
    match = selection.matches if selection.filters else None
    late = match if call.resource.converts else None
    watcher = Watcher(
        0,
        namespace=call.namespace,
        name=selection.name,
        trigger=selection.trigger,
        match=None if late else match,
    )
    start = await _start(parts, call, options, watcher, selection, revision, late=late is not None)
    start.match = late
    return start


async def _start(
    parts: Parts, call: Call, options: ListOptions, watcher: Watcher, selection: Selection, revision: int, *, late: bool
) -> Start:
    """`late`: what is selected is told when it has been converted."""
    cache = call.resource.cache
    if options.initial_events:
        try:
            await wait(parts, revision)
        except Timeout as error:
            return Start(watcher, failure=error)
        entries = cache.range(call.namespace) if late else selection.entries(cache)
        return parts.watches.from_now(cache, watcher, entries, mark=options.bookmarks)
    if revision == 0:
        return parts.watches.from_now(cache, watcher, (), mark=False)
    return parts.watches.after(cache, watcher, revision)
