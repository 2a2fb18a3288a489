"""An APIService for each group and version of custom resources: made when they are served, removed when they are not.

Those of built-in groups are made when the server starts (`bootstrap`). One that somebody wrote by hand is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.api.meta import new_uid
from tiphys.apiserver.aggregation.remotes import GROUP, PLURAL
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.serving import Serving
from tiphys.apiserver.watcher import Watcher
from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import TiphysError

log = logging.getLogger(__name__)

LABEL = "kube-aggregator.kubernetes.io/automanaged"
FOLLOWED = (("apiextensions.k8s.io", "customresourcedefinitions"), (GROUP, PLURAL))
AGAIN_SECONDS = 1.0
"""How long to wait after what could not be written."""
Create = Callable[[str, str, dict[str, Any]], Awaitable[None]]
Delete = Callable[[str, str, str], Awaitable[None]]


class Registration:
    """See the module's docstring. `create` stores an object, `delete` removes the one of a name."""

    def __init__(self, serving: Serving, caches: Caches, create: Create, delete: Delete, clock: Clock) -> None:
        self._serving, self._caches = serving, caches
        self._create, self._delete, self._clock = create, delete, clock

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource in FOLLOWED:
                group.create_task(self._follow(self._caches.of(*resource)))

    async def _follow(self, cache: ResourceCache) -> None:
        while True:
            watcher = Watcher(cache.last_revision)
            cache.subscribe(watcher)
            try:
                await self._settle()
                while await watcher.next():
                    await self._settle()
            except TiphysError as error:
                log.warning("APIServices of custom resources could not be written: %s", error)
                await self._clock.sleep(AGAIN_SECONDS)
            finally:
                cache.unsubscribe(watcher)

    async def _settle(self) -> None:
        catalog = self._serving.catalog
        wanted = {f"{info.version}.{info.group}": info for info in catalog.resources if info.custom}
        for obj in list(self._caches.list(GROUP, PLURAL)):
            name, labels = obj["metadata"]["name"], obj["metadata"].get("labels") or {}
            if name not in wanted and labels.get(LABEL) == "true":
                await self._delete(GROUP, PLURAL, name)
        for name, info in wanted.items():
            if self._caches.get(GROUP, PLURAL, "", name) is None:
                now = rfc3339(self._clock.time())
                await self._create(GROUP, PLURAL, local_service(name, info.group, info.version, now))


def local_service(
    name: str, group: str, version: str, now: str, *, label: str = "true", priorities: tuple[int, int] = (1000, 100)
) -> dict[str, Any]:
    """An APIService of a group and version that are answered here; `priorities` of the group and of the version."""
    condition = {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
    metadata = {"name": name, "uid": new_uid(), "creationTimestamp": now, "labels": {LABEL: label}}
    minimum, priority = priorities
    spec = {"group": group, "version": version, "groupPriorityMinimum": minimum, "versionPriority": priority}
    head = {"kind": "APIService", "apiVersion": f"{GROUP}/v1", "metadata": metadata}
    return {**head, "spec": spec, "status": {"conditions": [condition]}}
