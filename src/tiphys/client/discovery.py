"""What resources the server has: for those that handle every kind alike (garbage collection, namespace deletion)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import ApiError
from tiphys.client.types import Client, Resource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class ApiResource:
    """One resource in its group's preferred version."""

    resource: Resource
    kind: str
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        return f"{self.resource.group}/{self.resource.version}" if self.resource.group else self.resource.version

    @property
    def group_resource(self) -> tuple[str, str]:
        return self.resource.group, self.resource.plural


@dataclass(frozen=True, slots=True)
class Discovery:
    """All resources that are known, and the versions ("group/version") of which nobody knows what is in them."""

    resources: tuple[ApiResource, ...]
    stale: tuple[str, ...] = ()

    @property
    def failure(self) -> str:
        """What client-go says when something is missing; "" when nothing is."""
        if not self.stale:
            return ""
        parts = (f"{each}: stale GroupVersion discovery: {each}" for each in sorted(self.stale))
        return f"unable to retrieve the complete list of server APIs: {', '.join(parts)}"

    def lacks(self, group: str) -> bool:
        """Whether a version of that group is stale, so that what it has may only seem to be gone."""
        return any(each.partition("/")[0] == group for each in self.stale)


async def discover(client: Client) -> Discovery:
    """Every resource, without subresources, once, in the version its group prefers (or the first that has it).

    Raises ApiError when discovery itself does not answer."""
    found: dict[tuple[str, str], ApiResource] = {}
    stale = []
    for path in ("/api", "/apis"):
        listing = await client.call("GET", path, accept=AGGREGATED)
        if not isinstance(listing, Mapping) or listing.get("kind") != "APIGroupDiscoveryList":
            raise ApiError(f"the server has no aggregated discovery at {path}")
        for group in listing.get("items") or ():
            name = (group.get("metadata") or {}).get("name") or ""
            for version in group.get("versions") or ():
                if version.get("freshness") == "Stale":
                    stale.append(f"{name}/{version['version']}")
                for entry in version.get("resources") or ():
                    _add(found, name, version["version"], entry)
    return Discovery(tuple(found.values()), tuple(stale))


async def preferred_resources(client: Client) -> list[ApiResource]:
    """The resources of `discover`, for those who can do without what is stale. Raises ApiError."""
    return [*(await discover(client)).resources]


def _add(found: dict[tuple[str, str], ApiResource], group: str, version: str, entry: Mapping[str, Any]) -> None:
    kind = (entry.get("responseKind") or {}).get("kind")
    key = (group, entry["resource"])
    if not kind or key in found:
        return
    resource = Resource(group, version, entry["resource"], entry.get("scope") == "Namespaced")
    found[key] = ApiResource(resource, kind, frozenset(entry.get("verbs") or ()))
