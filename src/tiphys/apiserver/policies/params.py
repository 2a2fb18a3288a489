"""Parameters: the objects of a policy's paramKind that a binding names, of any kind that is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.catalog import Catalog, ResourceInfo, split_group_version
from tiphys.api.selectors import from_object
from tiphys.apiserver.types import Object, Reader
from tiphys.apiserver.webhooks.matching import Match
from tiphys.apiserver.webhooks.versions import Versions

Struct = Mapping[str, Any]


class Misconfigured(Exception):
    """A policy or binding cannot be used for a request; the text says why."""


def resource_of(kind: Struct, catalog: Catalog) -> ResourceInfo:
    """What a paramKind names. Raises Misconfigured."""
    group, version = split_group_version(kind.get("apiVersion") or "")
    found = catalog.of_kind(group, version, kind.get("kind") or "")
    if found is None or not found.storable:
        what = f"{group}/{version}, Kind={kind.get('kind')}"
        raise Misconfigured(f"failed to find resource referenced by paramKind: '{what}'")
    return found


async def collect(
    resource: ResourceInfo | None, reference: Struct | None, namespace: str, reader: Reader, versions: Versions
) -> list[Object | None]:
    """The parameters to evaluate a policy with, one time each. A policy that is used without any has None.

    Raises Misconfigured."""
    if resource is None or reference is None:
        return [None]
    where = _namespace(resource, reference, namespace)
    found = _found(resource, reference, where, reader)
    if not found and reference.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    match = Match(
        (resource.group, resource.version, resource.plural), (resource.group, resource.version, resource.kind)
    )
    return [await versions.show(one, match) for one in found]


def _namespace(resource: ResourceInfo, reference: Struct, namespace: str) -> str:
    wanted: str = reference.get("namespace") or ""
    if not resource.namespaced:
        if wanted:
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        return ""
    if not wanted and not namespace:
        text = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        raise Misconfigured(text)
    return wanted or namespace


def _found(resource: ResourceInfo, reference: Struct, namespace: str, reader: Reader) -> list[Object]:
    group, plural = resource.stored_group, resource.plural
    if name := reference.get("name"):
        found = reader.get(group, plural, namespace, name)
        return [] if found is None else [found]
    try:
        selector = from_object(reference.get("selector"))
    except ValueError as error:
        raise Misconfigured(str(error)) from error
    listed = [one for one in reader.list(group, plural, namespace) if selector.matches(one["metadata"].get("labels"))]
    return sorted(listed, key=lambda one: str(one["metadata"]["name"]))
