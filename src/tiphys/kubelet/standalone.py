"""A kubelet without an API server: it runs static pods only.

`NoApi` is a `Client` of an API that has nothing and says nothing: lists are empty, watches tell nothing, the node is
never registered. Who asks for the access of others (TokenReview and the like) is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tiphys.base.errors import Forbidden, NotFound
from tiphys.client.types import Listing, Object, Resource, WatchEvent

_ASKED = ("tokenreviews", "subjectaccessreviews")


class NoApi:
    """See the module's docstring."""

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        raise NotFound(f'{resource.plural} "{name}" not found: there is no API server')

    async def list(self, resource: Resource, namespace: str = "", **options: Any) -> Listing:
        return Listing((), "0")

    async def watch(self, resource: Resource, namespace: str = "", **options: Any) -> AsyncIterator[WatchEvent]:
        await _for_ever()
        yield WatchEvent("BOOKMARK", {})

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        if resource.plural in _ASKED or subresource:
            raise Forbidden("there is no API server to ask")
        if resource.plural != "events":
            await _for_ever()
        return obj

    async def update(self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "") -> Object:
        await _for_ever()
        return obj

    async def patch(self, resource: Resource, name: str, patch: Any, namespace: str = "", **options: Any) -> Object:
        raise NotFound(f'{resource.plural} "{name}" not found: there is no API server')

    async def delete(self, resource: Resource, name: str, namespace: str = "", **options: Any) -> Object:
        raise NotFound(f'{resource.plural} "{name}" not found: there is no API server')

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        raise NotFound(f"{path}: there is no API server")

    async def close(self) -> None:
        return


async def _for_ever() -> None:
    await asyncio.Event().wait()
