"""Mirrors of static pods in the API, and the statuses that are written to them.

A mirror is made for each static pod that runs, made again when somebody deletes it or when the pod is another one,
and deleted when the pod is gone. The API's object has a UID of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import AlreadyExists, ApiError, Conflict, NotFound
from tiphys.client.backoff import Backoff
from tiphys.client.resources import PODS
from tiphys.client.types import Client
from tiphys.kubelet.podspec import Object, is_deleted, name_of, namespace_of, uid_of
from tiphys.kubelet.standalone import NoApi
from tiphys.kubelet.staticpods.manifest import is_static, mirror_of, mirrors
from tiphys.kubelet.status_manager import StatusManager
from tiphys.kubelet.tasks import Tasks

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name)"""


def key_of(pod: Object) -> Key:
    return namespace_of(pod), name_of(pod)


class MirroredStatuses(StatusManager):
    """Statuses of static pods go to their mirrors; while there is none nothing waits for it."""

    def __init__(self, client: Client, clock: Clock, group: asyncio.TaskGroup) -> None:
        super().__init__(client, clock, group)
        self.mirrors: dict[Key, Object] = {}
        """What the API has."""

    def set(self, pod: Object, status: Mapping[str, Any], version: int, saved: Callable[[int], None]) -> None:
        if not is_static(pod):
            super().set(pod, status, version, saved)
            return
        mirror = self.mirrors.get(key_of(pod))
        if mirror is None or not mirrors(mirror, pod):
            saved(version)
        else:
            super().set(mirror, status, version, saved)


class Mirrors:
    """Keeps the mirrors as they should be. `wanted(key)` is the static pod that runs under a name;
    `busy(key)` tells that the mirror is to be left alone for now."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        group: asyncio.TaskGroup,
        statuses: MirroredStatuses,
        own_node: Callable[[], Object],
        wanted: Callable[[Key], Object | None],
        busy: Callable[[Key], bool],
    ) -> None:
        self._client = client
        self._clock = clock
        self._tasks = Tasks(group)
        self._known = statuses.mirrors
        self._own_node = own_node
        self._wanted = wanted
        self._busy = busy
        self._backoff = Backoff(base=0.5, limit=30.0, jitter=0.2, seed="mirrors")

    def reconcile(self, key: Key) -> None:
        """Look at the mirror of that name and do what is missing, until it is done."""
        self._tasks.replace(f"mirror {key[0]}/{key[1]}", self._insist(key))

    async def _insist(self, key: Key) -> None:
        failures = 0
        while True:
            try:
                await self._reconcile(key)
            except (ApiError, OSError) as error:
                delay = self._backoff.delay(failures)
                failures += 1
                log.warning("mirror pod %s/%s: next try in %.1f s: %s", *key, delay, error)
                await self._clock.sleep(delay)
            else:
                return

    async def _reconcile(self, key: Key) -> None:
        pod, mirror = self._wanted(key), self._known.get(key)
        if self._busy(key) or isinstance(self._client, NoApi):
            return
        if mirror is not None and (pod is None or is_deleted(mirror) or not mirrors(mirror, pod)):
            await self._delete(key, mirror)
            mirror = None
        if pod is not None and mirror is None:
            await self._create(key, pod)

    async def _delete(self, key: Key, mirror: Object) -> None:
        log.info("deleting mirror pod %s/%s", *key)
        try:
            await self._client.delete(PODS, key[1], key[0], grace_seconds=0, uid=uid_of(mirror))
        except (NotFound, Conflict):
            log.debug("mirror pod %s/%s is gone or another one already", *key)

    async def _create(self, key: Key, pod: Object) -> None:
        node = self._own_node()
        uid = node["metadata"].get("uid")
        if not uid:
            raise ConnectionError("the node is not registered yet")
        if is_deleted(node):
            return
        try:
            await self._client.create(PODS, mirror_of(pod, str(node["metadata"]["name"]), str(uid)), key[0])
        except AlreadyExists:
            found = await self._client.get(PODS, key[1], key[0])
            if is_deleted(found) or not mirrors(found, pod):
                raise  # it is on its way out, or somebody else's
