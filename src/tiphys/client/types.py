"""The mouth: how every component speaks to the API server. This page is the whole seam.

`Client` is the same over HTTPS (`client.https`) and inside the control plane's process (`client.local`, no
socket, no encoding, same identity and admission). Objects are plain dicts with their JSON names. What a
client returns may be shared with other readers: never change it in place, copy the path that you change
(`api.meta.evolve`). Errors are those of `base.errors` (NotFound, Conflict, Gone ...).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Object = Mapping[str, Any]
"""A Kubernetes object as decoded JSON. Read-only by contract."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What a request path needs: group ("" for core), version and plural name."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The request path, e.g. /apis/apps/v1/namespaces/default/deployments/web/scale."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list. `continue_` is "" on the last page."""

    items: tuple[Object, ...]
    resource_version: str
    continue_: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """type is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR event is raised as its ApiError instead."""

    type: str
    object: Object


JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Client(Protocol):
    """Calls on the API. `namespace` is "" for cluster-scoped resources and for all namespaces."""

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object: ...

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
    ) -> Listing: ...

    def watch(
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
        """Events after `resource_version` until the server ends the watch or the iterator is closed.

        Raises Gone when the revision is too old: list again."""
        ...

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        """POST; with `name` and `subresource` for pods/binding, pods/eviction, serviceaccounts/token."""
        ...

    async def update(self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "") -> Object:
        """PUT. A resourceVersion in `obj` makes it conditional. `namespace` defaults to the object's own."""
        ...

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
    ) -> Object: ...

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
    ) -> Object: ...

    async def call(
        self, method: str, path: str, body: Any = None, *, accept: str = "application/json", **query: str
    ) -> Any:
        """Any other path (discovery, /healthz, proxies): the decoded JSON answer, or text."""
        ...

    async def close(self) -> None: ...
