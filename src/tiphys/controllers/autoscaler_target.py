"""What can be scaled: the resource behind a kind, by discovery, and its scale subresource.

The autoscaler changes scales; the disruption controller reads those of custom kinds. What discovery said is kept
until an object is not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api import selectors
from tiphys.base.errors import ApiError, BadRequest, NotFound
from tiphys.client.types import Client, Object, Resource


class NoSuchKind(NotFound):
    """No resource of the server has that kind."""


class Scales:
    """Scales of any kind in any group."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[str, str, str], list[Resource]] = {}

    async def find(self, group: str, kind: str, namespace: str, name: str) -> tuple[Resource, Object]:
        """The scale of an object of `kind` in any version of `group`, and its resource. Raises ApiError."""
        return await self._first(await self.resources(group, kind), group, kind, namespace, name)

    async def find_in(self, api_version: str, kind: str, namespace: str, name: str) -> tuple[Resource, Object]:
        """The same in one version. Raises ApiError."""
        group, version = split_version(api_version)
        return await self._first(await self.resources(group, kind, version), group, kind, namespace, name)

    async def replace(self, resource: Resource, scale: Object) -> Object:
        """PUT a scale. Raises ApiError."""
        meta = scale["metadata"]
        return await self._client.update(resource, scale, str(meta.get("namespace") or ""), subresource="scale")

    async def resources(self, group: str, kind: str, version: str = "") -> list[Resource]:
        """The resources of `kind`, the group's preferred version first. Raises ApiError, NoSuchKind."""
        key = group, kind, version
        if key not in self._known:
            versions = [version] if version else await self._versions(group)
            found = [one for each in versions for one in await self._listed(group, each, kind)]
            if not found:
                where = f'version "{join_version(group, version)}"' if version else f'group "{group}"'
                raise NoSuchKind(f'no matches for kind "{kind}" in {where}')
            self._known[key] = found
        return self._known[key]

    async def implements_scale(self, resource: Resource) -> bool:
        """Whether the resource has a scale subresource at all. Raises ApiError."""
        listing = await self._client.call("GET", _group_path(resource.group, resource.version))
        wanted = f"{resource.plural}/scale"
        return any(each["name"] == wanted and each["kind"] == "Scale" for each in listing.get("resources") or ())

    async def _first(
        self, resources: Sequence[Resource], group: str, kind: str, namespace: str, name: str
    ) -> tuple[Resource, Object]:
        failure: ApiError | None = None
        for resource in resources:
            try:
                scale = await self._client.get(resource, name, namespace, subresource="scale")
                _check_selector(str((scale.get("status") or {}).get("selector") or ""))
            except ApiError as error:
                failure = failure or error
            else:
                return resource, scale
        self._known = {key: value for key, value in self._known.items() if key[:2] != (group, kind)}
        assert failure is not None, "there is a resource to every kind that is known"
        raise failure

    async def _versions(self, group: str) -> list[str]:
        if not group:
            return ["v1"]
        try:
            found: Mapping[str, Any] = await self._client.call("GET", f"/apis/{group}")
        except ApiError as error:
            if error.code == NotFound.code:  # a path that nobody serves is refused in plain text, without a reason
                return []
            raise
        preferred = (found.get("preferredVersion") or {}).get("version")
        versions = [each["version"] for each in found.get("versions") or ()]
        return sorted(versions, key=lambda each: each != preferred)

    async def _listed(self, group: str, version: str, kind: str) -> list[Resource]:
        try:
            listing = await self._client.call("GET", _group_path(group, version))
        except ApiError as error:
            if error.code == NotFound.code:
                return []
            raise
        return [
            Resource(group, version, each["name"], bool(each.get("namespaced")))
            for each in listing.get("resources") or ()
            if each["kind"] == kind and "/" not in each["name"]
        ]


def _check_selector(text: str) -> None:
    """Upstream converts what it reads. Raises BadRequest with its words."""
    try:
        selectors.parse_labels(text)
    except BadRequest as error:
        why = f'failed to parse target selector: couldn\'t parse the selector string "{text}": {error}'
        what = "received an object from a /scale endpoint which was not convertible to autoscaling Scale"
        raise BadRequest(f"{what}: {why}") from error


def split_version(api_version: str) -> tuple[str, str]:
    """(group, version). Raises ValueError with upstream's words."""
    if api_version.count("/") > 1:
        raise ValueError(f"unexpected GroupVersion string: {api_version}")
    group, _, version = api_version.rpartition("/")
    return group, version


def join_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def _group_path(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"
