"""What resources the server has: for those that handle every kind alike (garbage collection, namespace deletion)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import ApiError
from tiphys.client.types import Client, Resource


@dataclass(frozen=True, slots=True)
class ApiResource:
    """One resource in its group's preferred version."""

    resource: Resource
    kind: str
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        return f"{self.resource.group}/{self.resource.version}" if self.resource.group else self.resource.version


async def preferred_resources(client: Client) -> list[ApiResource]:
    """Every resource, without subresources, once, in the version its group prefers (or the first that has it).

    A group whose server does not answer is left out; its name is in the logs of who looks for it. Raises ApiError
    when the list of groups itself cannot be had."""
    found: dict[tuple[str, str], ApiResource] = {}
    async for group, version in _versions(client):
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            listing = await client.call("GET", path)
        except ApiError:
            continue
        for entry in listing.get("resources") or ():
            if "/" not in entry["name"]:
                found.setdefault((group, entry["name"]), _api_resource(group, version, entry))
    return list(found.values())


async def _versions(client: Client) -> AsyncIterator[tuple[str, str]]:
    yield "", "v1"
    groups = await client.call("GET", "/apis")
    for group in groups.get("groups") or ():
        preferred = (group.get("preferredVersion") or {}).get("version")
        others = [each["version"] for each in group.get("versions") or () if each["version"] != preferred]
        for version in ([preferred] if preferred else []) + others:
            yield group["name"], version


def _api_resource(group: str, version: str, entry: dict[str, Any]) -> ApiResource:
    resource = Resource(group, version, entry["name"], bool(entry.get("namespaced")))
    return ApiResource(resource, entry["kind"], frozenset(entry.get("verbs") or ()))
