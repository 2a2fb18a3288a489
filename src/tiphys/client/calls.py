"""The `Client` calls in terms of two primitives: exchange one request, and open one watch.

`local` and `https` differ only in how a `Call` travels; paths, query parameters, delete options and the decoding
of lists and watch events are here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.errors import ApiError
from tiphys.client.streams import closing
from tiphys.client.types import STRATEGIC_PATCH, Listing, Object, Resource, WatchEvent

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One request in the API's terms; `body` is decoded JSON (None: no body)."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    accept: str = JSON


class CallingClient(ABC):
    """The whole of `client.types.Client`, given `exchange` and `events`."""

    @abstractmethod
    async def exchange(self, call: Call) -> Any:
        """The decoded answer (text for what is not JSON); raises the ApiError that a Status stands for."""

    @abstractmethod
    def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        """Decoded {"type", "object"} until the server ends the watch."""

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        return _object(await self.exchange(Call("GET", resource.path(namespace, name, subresource))))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
    ) -> Listing:
        query = _given(
            labelSelector=labels,
            fieldSelector=fields,
            limit=str(limit or ""),
            resourceVersion=resource_version,
            **{"continue": continue_},
        )
        answer = _object(await self.exchange(Call("GET", resource.path(namespace), query)))
        return _listing(answer)

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
        timeout: float = 0,
    ) -> AsyncIterator[WatchEvent]:
        query = _given(
            watch="true",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=resource_version,
            allowWatchBookmarks="true" if bookmarks else "",
            timeoutSeconds=str(round(timeout) or ""),
        )
        events = self.events(Call("GET", resource.path(namespace), query))
        async with closing(events) as source:
            async for event in source:
                if event["type"] == "ERROR":
                    raise ApiError.of(event["object"])
                yield WatchEvent(event["type"], event["object"])

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        path = resource.path(namespace or _namespace(obj), name, subresource)
        return _object(await self.exchange(Call("POST", path, body=obj)))

    async def update(self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "") -> Object:
        path = resource.path(namespace or _namespace(obj), str(obj["metadata"]["name"]), subresource)
        return _object(await self.exchange(Call("PUT", path, body=obj)))

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
        query = _given(fieldManager=field_manager, force="true" if force else "")
        path = resource.path(namespace, name, subresource)
        return _object(await self.exchange(Call("PATCH", path, query, patch, type)))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        propagation: str = "",
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation:
            options["propagationPolicy"] = propagation
        if conditions := _given(uid=uid, resourceVersion=resource_version):
            options["preconditions"] = conditions
        return _object(await self.exchange(Call("DELETE", resource.path(namespace, name), body=options)))

    async def call(self, method: str, path: str, body: Any = None, *, accept: str = JSON, **query: str) -> Any:
        return await self.exchange(Call(method, path, query, body, accept=accept))

    async def close(self) -> None:
        """Release the transport; without one there is nothing to release."""
        return None


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _namespace(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or "")


def _object(answer: Any) -> Object:
    if isinstance(answer, Mapping):
        return answer
    raise ApiError(f"the server answered with {type(answer).__name__}, not with an object")


def _listing(answer: Object) -> Listing:
    """Items of a typed list carry no apiVersion and kind of their own: they get those that the list implies."""
    meta = answer.get("metadata") or {}
    version, kind = answer.get("apiVersion", ""), str(answer.get("kind", "")).removesuffix("List")
    items = answer.get("items") or ()
    return Listing(
        tuple(item if item.get("kind") else {"apiVersion": version, "kind": kind, **item} for item in items),
        str(meta.get("resourceVersion", "")),
        str(meta.get("continue") or ""),
        meta.get("remainingItemCount"),
    )
