"""Writes the bootstrap objects past the handler chain, as the API server itself (`bootstrap.Writer`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Resource
from tiphys.apiserver.storage import Author
from tiphys.store.types import Mismatch

AUTHOR = Author("system:apiserver", "bootstrap")


class DefaultsWriter:
    """`resources` are the stored ones by (group, plural)."""

    def __init__(self, parts: Parts, resources: Mapping[tuple[str, str], Resource]) -> None:
        self._parts, self._resources = parts, resources

    def serves(self, group: str, plural: str) -> bool:
        return (group, plural) in self._resources

    async def create(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        resource = self._resources[group, plural]
        obj = self._canonical(resource, obj)
        metadata = obj["metadata"]
        owned = metadata.pop("managedFields", None)
        if resource.kind.counts_generation:
            metadata["generation"] = 1
        key = resource.cache.stored.key(metadata.get("namespace", ""), metadata["name"])
        try:
            async with self._parts.reserving(group, plural, obj, None, dry_run=False):
                managed = orjson.dumps(owned) if owned else b""
                await self._parts.storage.create(resource.cache, key, obj, AUTHOR, managed)
        except Mismatch:
            return  # another API server was faster

    async def update(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        resource = self._resources[group, plural]
        metadata = obj["metadata"]
        old = resource.cache.get(metadata.get("namespace", ""), metadata["name"])
        if old is None or str(old.revision) != metadata["resourceVersion"]:
            return
        obj = self._canonical(resource, obj)
        if obj == resource.cache.obj(old):
            return
        try:
            await self._parts.storage.replace(resource.cache, old, obj, AUTHOR)
        except Mismatch:
            return

    async def delete(self, group: str, plural: str, name: str) -> None:
        """Remove an object of the cluster; one that is gone is left at that."""
        resource = self._resources[group, plural]
        old = resource.cache.get("", name)
        if old is None:
            return
        try:
            await self._parts.storage.remove(resource.cache, old, AUTHOR)
        except Mismatch:
            return

    def _canonical(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        out = self._parts.codec.normalize(obj, resource.info.type)
        out["kind"], out["apiVersion"] = resource.kind_name, resource.expected.api_version
        resource.kind.default(out, resource.version)
        return out
