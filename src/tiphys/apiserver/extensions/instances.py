"""Deletes all objects of a definition that is being deleted, then lets the definition go.

The finalizer customresourcecleanup.apiextensions.k8s.io holds the definition until its last object is gone; objects
with finalizers of their own are marked as deleted and waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import Kind
from tiphys.api.meta import is_true
from tiphys.apiserver import deletion
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Change, Entry
from tiphys.apiserver.extensions import status
from tiphys.apiserver.extensions.describing import ESTABLISHED
from tiphys.apiserver.extensions.registry import Registry
from tiphys.apiserver.extensions.writing import Writer
from tiphys.apiserver.storage import Author, Storage
from tiphys.apiserver.timers import Timers
from tiphys.store.types import Mismatch

Object = Mapping[str, Any]
AUTHOR = Author("system:apiserver", "deletion of its CustomResourceDefinition")
PATIENCE_SECONDS = 60.0
"""After this long the definition's status says what it waits for."""
AT_ONCE = 16
"""Objects that are deleted at the same time."""
_UNGRACEFUL = Kind()


class Cleaner:
    """See the module's docstring."""

    def __init__(
        self, registry: Registry, crds: ResourceCache, storage: Storage, writer: Writer, timers: Timers
    ) -> None:
        self._registry, self._crds, self._storage = registry, crds, storage
        self._writer, self._timers = writer, timers

    async def clean(self, name: str) -> None:
        """Do what is left to do for the definition. Raises Conflict, NotFound when somebody else changed it."""
        crd = self._current(name)
        if crd is None:
            return
        crd = await self._say(crd, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        spec = crd["spec"]
        if self._registry.overlaps(spec["group"], spec["names"]["plural"]):
            outcome = "OverlappingBuiltInResource", "instances overlap with built-in resources in storage"
        elif is_true(crd, ESTABLISHED):
            await self._delete_all(name)
            outcome = "InstanceDeletionCompleted", "removed all instances"
        else:
            outcome = "NeverEstablished", "resource was never established"
        current = self._current(name)
        if current is not None:
            gone = status.terminating(current, "False", *outcome, self._writer.now())
            await self._writer.write(current, gone, without=status.FINALIZER)

    async def _say(self, crd: Object, value: str, reason: str, message: str) -> Object:
        wanted = status.terminating(crd, value, reason, message, self._writer.now())
        return await self._writer.write(crd, wanted)

    def _current(self, name: str) -> Object | None:
        entry = self._crds.get("", name)
        return None if entry is None else self._crds.obj(entry)

    async def _delete_all(self, name: str) -> None:
        installed = self._registry.installed(name)
        if installed is None:
            return
        cache, wake = installed.cache, asyncio.Event()

        def look(_: Change) -> None:
            if not len(cache):
                wake.set()

        cache.listeners.append(look)
        try:
            await self._delete(cache)
            while len(cache):
                timer = self._timers.after(PATIENCE_SECONDS, wake.set)
                await wake.wait()
                timer.cancel()
                wake.clear()
                if len(cache):
                    await self._explain(name)
                    await self._delete(cache)
        finally:
            cache.listeners.remove(look)

    async def _explain(self, name: str) -> None:
        crd = self._current(name)
        if crd is not None:
            text = "could not confirm zero CustomResources remaining: context deadline exceeded"
            await self._say(crd, "True", "InstanceDeletionCheck", text)

    async def _delete(self, cache: ResourceCache) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(entry: Entry) -> None:
            async with limit:
                await self._delete_one(cache, entry)

        async with asyncio.TaskGroup() as group:
            for entry in cache.range():
                group.create_task(one(entry))

    async def _delete_one(self, cache: ResourceCache, entry: Entry) -> None:
        current = cache.obj(entry)
        plan = deletion.plan(_UNGRACEFUL, current, {}, self._writer.now())
        try:
            if plan.gone:
                await self._storage.remove(cache, entry, AUTHOR)
            elif plan.marked is not None and plan.marked != current:
                await self._storage.replace(cache, entry, plan.marked, AUTHOR)
        except Mismatch:
            return  # somebody changed it: it is looked at again
