"""Who manages what: a controller adopts orphans that its selector matches and releases what it no longer matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import Invalid, NotFound, Retry
from tiphys.client.types import STRATEGIC_PATCH, Client, Object, Resource
from tiphys.controllers.objects import (
    controller_of,
    controller_reference,
    deleting,
    finalizers,
    labels,
    name,
    namespace,
    uid,
)

Matches = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Claims:
    """What an owner manages already, and what it should adopt and let go."""

    owned: tuple[Object, ...]
    adopt: tuple[Object, ...] = ()
    release: tuple[Object, ...] = ()


def claim(owner: Object, matches: Matches, objects: Iterable[Object]) -> Claims:
    """Sort `objects` of the owner's namespace by what is to be done with them."""
    owned, adopt, release = [], [], []
    for obj in objects:
        reference = controller_of(obj)
        fits = matches(labels(obj))
        if reference is not None:
            if reference["uid"] != uid(owner):
                continue
            if fits:
                owned.append(obj)
            elif not deleting(owner):
                release.append(obj)
        elif fits and not deleting(owner) and not deleting(obj) and namespace(obj) == namespace(owner):
            adopt.append(obj)
    return Claims(tuple(owned), tuple(adopt), tuple(release))


async def settle(
    client: Client, owners: Resource, owner: Object, resource: Resource, claims: Claims, finalizer: str = ""
) -> tuple[Object, ...]:
    """Carry out adoptions and releases; returns what is managed afterwards.

    Before the first adoption the owner is read afresh: a cache that does not know of its deletion must not make it
    adopt what garbage collection has just set free. Adopted objects get `finalizer` as well, if there is one.
    """
    managed = list(claims.owned)
    if claims.adopt:
        await check_alive(client, owners, owner)
    for obj in claims.adopt:
        adopted = await _patch(client, resource, obj, _adoption(owner, obj, finalizer))
        if adopted is not None:
            managed.append(adopted)
    for obj in claims.release:
        await _patch(client, resource, obj, _release(owner, obj, finalizer))
    return tuple(managed)


async def check_alive(client: Client, owners: Resource, owner: Object) -> None:
    """Read the owner afresh; raises Retry or NotFound if it is not what the cache says."""
    fresh = await client.get(owners, name(owner), namespace(owner))
    if uid(fresh) != uid(owner):
        raise Retry(f"{owner['kind']} {name(owner)} was replaced by another of the same name")
    if deleting(fresh):
        raise Retry(f"{owner['kind']} {name(owner)} is being deleted")


def _adoption(owner: Object, obj: Object, finalizer: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"uid": uid(obj), "ownerReferences": [controller_reference(owner)]}
    if finalizer:
        meta["finalizers"] = [finalizer]
    return {"metadata": meta}


def _release(owner: Object, obj: Object, finalizer: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"uid": uid(obj), "ownerReferences": [{"$patch": "delete", "uid": uid(owner)}]}
    if finalizer in finalizers(obj):
        meta["$deleteFromPrimitiveList/finalizers"] = [finalizer]
    return {"metadata": meta}


async def _patch(client: Client, resource: Resource, obj: Object, patch: dict[str, Any]) -> Object | None:
    """Apply `patch`; None if the object is gone (NotFound) or was replaced by another (Invalid: the uid differs)."""
    try:
        return await client.patch(resource, name(obj), patch, namespace(obj), type=STRATEGIC_PATCH)
    except (NotFound, Invalid):
        return None
