"""ConfigMaps and Secrets that pods of this node use: one watch for each, shared, dropped with its last user.

A node may read only objects that its pods refer to, one by one (the Node authorizer), so each has a watch of its
own with a field selector on its name. Changes are told to the pods that use the object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tiphys.base.clock import Clock
from tiphys.client.informer import Informer
from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.client.types import Client, Object

Key = tuple[str, str, str]
"""(configmaps | secrets, namespace, name)"""

_RESOURCES = {"configmaps": CONFIG_MAPS, "secrets": SECRETS}


@dataclass(slots=True)
class _Watched:
    informer: Informer
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)


class ObjectSources:
    """Local copies of referenced objects; `changed(uid)` tells which pod's object changed."""

    def __init__(self, client: Client, clock: Clock, group: asyncio.TaskGroup, changed: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._group = group
        self._changed = changed
        self._watched: dict[Key, _Watched] = {}

    async def use(self, uid: str, keys: Iterable[Key]) -> None:
        """Declare all that pod `uid` uses, and wait until it is there (or known to be absent)."""
        wanted = set(keys)
        self._drop(uid, keep=wanted)
        for key in wanted:
            watched = self._watched.get(key) or self._watch(key)
            watched.users.add(uid)
        for key in wanted:
            watched = self._watched[key]
            await watched.informer.wait_synced()

    def release(self, uid: str) -> None:
        """Pod `uid` uses nothing any more."""
        self._drop(uid, keep=set())

    def config_map(self, namespace: str, name: str) -> Object | None:
        return self._get(("configmaps", namespace, name))

    def secret(self, namespace: str, name: str) -> Object | None:
        return self._get(("secrets", namespace, name))

    def _get(self, key: Key) -> Object | None:
        watched = self._watched.get(key)
        return watched.informer.get(key[1], key[2]) if watched is not None else None

    def _watch(self, key: Key) -> _Watched:
        plural, namespace, name = key
        informer = Informer(
            self._client, _RESOURCES[plural], self._clock, namespace=namespace, fields=f"metadata.name={name}"
        )
        task = self._group.create_task(informer.run(), name=f"watch {plural} {namespace}/{name}")
        watched = self._watched[key] = _Watched(informer, task)
        informer.subscribe(lambda old, new: self._tell(key))
        return watched

    def _tell(self, key: Key) -> None:
        watched = self._watched.get(key)
        for uid in sorted(watched.users) if watched is not None else ():
            self._changed(uid)

    def _drop(self, uid: str, keep: set[Key]) -> None:
        for key, watched in list(self._watched.items()):
            if uid in watched.users and key not in keep:
                watched.users.discard(uid)
                if not watched.users:
                    watched.task.cancel()
                    del self._watched[key]
