"""ConfigMaps and Secrets that pods of this node use: a copy of each, shared, dropped with its last user.

A node may read only objects that its pods refer to, one by one (the Node authorizer), so each has a watch of its
own with a field selector on its name. Changes are told to the pods that use the object. An object that says that it
is immutable is watched no more. Where configMapAndSecretChangeDetectionStrategy is not Watch, objects are read anew:
for each use (Get) or when the copy is old (Cache), and for changes once in each syncFrequency.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, NotFound
from tiphys.client.informer import Informer
from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.client.types import Client, Object

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""(configmaps | secrets, namespace, name)"""

_RESOURCES = {"configmaps": CONFIG_MAPS, "secrets": SECRETS}
_RETRY = 1.0


class _Copy(Protocol):
    """The copy of one object, kept by a task until that is cancelled."""

    async def run(self) -> None: ...

    async def ready(self) -> None:
        """Returns when it is as current as it has to be for a use that begins now."""
        ...

    def get(self) -> Object | None: ...


class _Watched:
    def __init__(self, client: Client, clock: Clock, key: Key, changed: Callable[[], None]) -> None:
        plural, self._namespace, self._name = key
        fields = f"metadata.name={self._name}"
        self._informer = Informer(client, _RESOURCES[plural], clock, namespace=self._namespace, fields=fields)
        self._final: Object | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = changed

    async def run(self) -> None:
        self._task = asyncio.current_task()
        self._informer.subscribe(self._tell)
        await self._informer.run()

    def _tell(self, old: Object | None, new: Object | None) -> None:
        if new is not None and new.get("immutable") and self._task is not None:
            self._final = new
            self._task.cancel()
        self._changed()

    async def ready(self) -> None:
        if self._final is None:
            await self._informer.wait_synced()

    def get(self) -> Object | None:
        return self._final or self._informer.get(self._namespace, self._name)


class _Polled:
    def __init__(
        self, client: Client, clock: Clock, key: Key, changed: Callable[[], None], age: float, period: float
    ) -> None:
        self._client, self._clock, self._key, self._changed = client, clock, key, changed
        self._age, self._period = age, period
        self._read_at: float | None = None
        self._found: Object | None = None

    async def run(self) -> None:
        while not (self._found or {}).get("immutable"):
            await self._clock.sleep(self._period)
            before = self._found
            await self._read()
            if before != self._found:
                self._changed()

    async def ready(self) -> None:
        now = self._clock.monotonic()
        if self._read_at is None or (now - self._read_at >= self._age and not (self._found or {}).get("immutable")):
            await self._read()

    async def _read(self) -> None:
        plural, namespace, name = self._key
        while True:
            try:
                self._found = await self._client.get(_RESOURCES[plural], name, namespace)
            except NotFound:
                self._found = None
            except (ApiError, OSError) as error:
                log.warning("%s %s/%s cannot be read, trying again: %s", plural, namespace, name, error)
                await self._clock.sleep(_RETRY)
                continue
            self._read_at = self._clock.monotonic()
            return

    def get(self) -> Object | None:
        return self._found


@dataclass(slots=True)
class _Used:
    copy: _Copy
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)


class ObjectSources:
    """Local copies of referenced objects; `changed(uid)` tells which pod's object changed. `strategy` is Watch, Cache
    or Get, `period` is in seconds."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        group: asyncio.TaskGroup,
        changed: Callable[[str], None],
        strategy: str = "Watch",
        period: float = 60.0,
    ) -> None:
        self._client = client
        self._clock = clock
        self._group = group
        self._changed = changed
        self._strategy = strategy
        self._period = period
        self._used: dict[Key, _Used] = {}

    async def use(self, uid: str, keys: Iterable[Key]) -> None:
        """Declare all that pod `uid` uses, and wait until it is there (or known to be absent)."""
        wanted = set(keys)
        self._drop(uid, keep=wanted)
        for key in wanted:
            used = self._used.get(key) or self._begin(key)
            used.users.add(uid)
        for key in wanted:
            used_now = self._used.get(key)
            if used_now is not None:
                await used_now.copy.ready()

    def release(self, uid: str) -> None:
        """Pod `uid` uses nothing any more."""
        self._drop(uid, keep=set())

    def config_map(self, namespace: str, name: str) -> Object | None:
        return self._get(("configmaps", namespace, name))

    def secret(self, namespace: str, name: str) -> Object | None:
        return self._get(("secrets", namespace, name))

    def _get(self, key: Key) -> Object | None:
        used = self._used.get(key)
        return used.copy.get() if used is not None else None

    def _begin(self, key: Key) -> _Used:
        def tell() -> None:
            self._tell(key)

        copy: _Copy
        if self._strategy == "Watch":
            copy = _Watched(self._client, self._clock, key, tell)
        else:
            age = 0.0 if self._strategy == "Get" else self._period
            copy = _Polled(self._client, self._clock, key, tell, age, self._period)
        task = self._group.create_task(copy.run(), name=f"copy of {'/'.join(key)}")
        used = self._used[key] = _Used(copy, task)
        return used

    def _tell(self, key: Key) -> None:
        used = self._used.get(key)
        for uid in sorted(used.users) if used is not None else ():
            self._changed(uid)

    def _drop(self, uid: str, keep: set[Key]) -> None:
        for key, used in list(self._used.items()):
            if uid in used.users and key not in keep:
                used.users.discard(uid)
                if not used.users:
                    used.task.cancel()
                    del self._used[key]
