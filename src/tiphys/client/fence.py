"""A client that writes only while its owner may: the last line of defence against two leaders at once.

Timers stop the work of a leader whose lease runs out; but a process that was suspended, or whose event loop was kept
busy, may find a write ready to be sent before its timers were heard. Reading is always allowed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from tiphys.base.errors import ServiceUnavailable
from tiphys.client.types import STRATEGIC_PATCH, Client, Listing, Object, Resource, WatchEvent


class FencedClient:
    """`inner`, while `allowed` says so; otherwise writes raise ServiceUnavailable."""

    def __init__(self, inner: Client, allowed: Callable[[], bool]) -> None:
        self._inner = inner
        self._allowed = allowed

    def _check(self) -> None:
        if not self._allowed():
            raise ServiceUnavailable("this process is not the leader any more and writes nothing")

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        return await self._inner.get(resource, name, namespace, subresource=subresource)

    async def list(self, resource: Resource, namespace: str = "", **options: Any) -> Listing:
        return await self._inner.list(resource, namespace, **options)

    def watch(self, resource: Resource, namespace: str = "", **options: Any) -> AsyncIterator[WatchEvent]:
        return self._inner.watch(resource, namespace, **options)

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        self._check()
        return await self._inner.create(resource, obj, namespace, name=name, subresource=subresource)

    async def update(self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "") -> Object:
        self._check()
        return await self._inner.update(resource, obj, namespace, subresource=subresource)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        type: str = STRATEGIC_PATCH,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        self._check()
        return await self._inner.patch(
            resource,
            name,
            patch,
            namespace,
            type=type,
            subresource=subresource,
            field_manager=field_manager,
            force=force,
        )

    async def delete(self, resource: Resource, name: str, namespace: str = "", **options: Any) -> Object:
        self._check()
        return await self._inner.delete(resource, name, namespace, **options)

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        if method != "GET":
            self._check()
        return await self._inner.call(method, path, body, **query)

    async def close(self) -> None:
        await self._inner.close()
