"""Keeps the flow control objects as they must be: mandatory ones exist, and FlowSchemas say whether their level does.

Told by the caches; does nothing while nothing changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.fairness.policy import GROUP, LEVELS, SCHEMAS
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.types import Object
from tiphys.apiserver.watcher import Watcher
from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import TiphysError

log = logging.getLogger(__name__)
AGAIN_SECONDS = 1.0
"""How long to wait after what could not be written."""
Write = Callable[[str, str, dict[str, Any]], Awaitable[None]]
"""(group, plural, object): store over the one whose resourceVersion it has."""


class Upkeep:
    """`restore` creates what is missing of the default objects; `update` writes an object."""

    def __init__(self, caches: Caches, restore: Callable[[], Awaitable[None]], update: Write, clock: Clock) -> None:
        self._caches, self._restore, self._update, self._clock = caches, restore, update, clock

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for plural in (SCHEMAS, LEVELS):
                group.create_task(self._follow(self._caches.of(GROUP, plural)))

    async def _follow(self, cache: ResourceCache) -> None:
        failed = False
        while True:
            watcher = Watcher(cache.last_revision)
            cache.subscribe(watcher)
            try:
                if failed:  # nobody tells again of what was deleted meanwhile
                    await self._restore()
                    failed = False
                await self._settle()
                while items := await watcher.next():
                    if any(type == "DELETED" for type, _ in items):
                        await self._restore()
                    await self._settle()
            except (TiphysError, ExceptionGroup) as error:  # `restore` writes several objects at once
                log.warning("flow control objects could not be kept up: %s", error)
                failed = True
                await self._clock.sleep(AGAIN_SECONDS)
            finally:
                cache.unsubscribe(watcher)

    async def _settle(self) -> None:
        levels = {obj["metadata"]["name"] for obj in self._caches.list(GROUP, LEVELS)}
        for schema in self._caches.list(GROUP, SCHEMAS):
            name = (schema["spec"].get("priorityLevelConfiguration") or {}).get("name", "")
            condition = _dangling(name, name in levels, rfc3339(self._clock.time()))
            if not _says(schema, condition):
                await self._update(GROUP, SCHEMAS, _with(schema, condition))


def _dangling(level: str, found: bool, now: str) -> dict[str, str]:
    exists = "it exists" if found else "there is no such object"
    return {
        "type": "Dangling",
        "status": "False" if found else "True",
        "lastTransitionTime": now,
        "reason": "Found" if found else "NotFound",
        "message": f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
        f"{'and' if found else 'but'} {exists}",
    }


def _says(schema: Object, condition: dict[str, str]) -> bool:
    for have in (schema.get("status") or {}).get("conditions") or ():
        if have.get("type") == condition["type"]:
            return all(have.get(key) == condition[key] for key in ("status", "reason", "message"))
    return False


def _with(schema: Object, condition: dict[str, str]) -> dict[str, Any]:
    status = dict(schema.get("status") or {})
    others = [have for have in status.get("conditions") or () if have.get("type") != condition["type"]]
    return {**schema, "status": {**status, "conditions": [*others, condition]}}
