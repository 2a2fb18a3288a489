"""What the binder knows of claims and volumes, its own writes included, and how it writes them.

Binding is four writes and as many events that come back. With the newest versions at hand, whichever way they came,
the binder neither repeats what it has just written nor gives a volume to two claims while its cache is behind.
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.client.events import EventRecorder
from tiphys.client.informer import ObjectCache, key_of
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.types import Client, Object
from tiphys.controllers.objects import annotations_of, namespace, spec, uid
from tiphys.controllers.volume_binding import claim_status, volume_status
from tiphys.controllers.volume_matching import FreeVolumes
from tiphys.controllers.volumes import BIND_COMPLETED, claim_key, claim_ref, class_of_claim

BY_CLAIM = "claim"
"""Index of volumes: by the claim that they refer to."""
BY_VOLUME, WAITING = "volume", "waiting"
"""Indexes of claims: by the volume that they name; those that name none and have none, by their class."""


class NewestCache(ObjectCache):
    """Objects of which an older version never replaces a newer one."""

    def put(self, obj: Object) -> None:
        """Keep `obj` unless a newer version of it is here."""
        key = key_of(obj)
        known = self.by_key(key)
        if known is None or uid(known) != uid(obj) or _revision(known) <= _revision(obj):
            self.store(key, obj)

    def drop(self, obj: Object) -> None:
        """`obj` was deleted."""
        known = self.by_key(key_of(obj))
        if known is not None and uid(known) == uid(obj):
            self.store(key_of(obj), None)


class VolumeCache(NewestCache):
    """Volumes, and which of them may be chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.free = FreeVolumes()

    def store(self, key: str, new: Object | None) -> Object | None:
        if new is None:
            self.free.drop(key)
        else:
            self.free.put(new)
        return super().store(key, new)


class VolumeStore:
    """Claims and volumes, read at once and written at the revision that was read."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self.client = client
        self._recorder = recorder
        self._told: dict[str, tuple[str, str, str]] = {}
        self.volumes, self.claims = VolumeCache(), NewestCache()
        self.volumes.add_index(BY_CLAIM, _referred)
        self.claims.add_index(BY_VOLUME, _named)
        self.claims.add_index(WAITING, _waiting)

    async def update_volume(self, volume: Object) -> Object:
        """Raises Conflict if it has changed."""
        updated = await self.client.update(PERSISTENT_VOLUMES, volume)
        self.volumes.put(updated)
        return updated

    async def update_claim(self, claim: Object) -> Object:
        """Raises Conflict if it has changed."""
        updated = await self.client.update(PERSISTENT_VOLUME_CLAIMS, claim, namespace(claim))
        self.claims.put(updated)
        return updated

    async def set_volume_phase(
        self, volume: Object, phase: str, message: str = "", event: tuple[str, str] | None = None
    ) -> Object:
        """The volume in that phase; `event`, of a type and a reason, goes out if it was in another one."""
        new = volume_status(volume, phase, message)
        if new is None:
            return volume
        updated = await self.client.update(PERSISTENT_VOLUMES, {**volume, "status": new}, subresource="status")
        self.volumes.put(updated)
        if event is not None:
            self._recorder.event(updated, *event, message)
        return updated

    async def set_claim_phase(self, claim: Object, phase: str, volume: Object | None = None) -> Object:
        """The claim in that phase, with what its volume gives. Raises Conflict, Permanent."""
        new = claim_status(claim, phase, volume)
        if new is None:
            return claim
        changed = {**claim, "status": new}
        updated = await self.client.update(PERSISTENT_VOLUME_CLAIMS, changed, namespace(claim), subresource="status")
        self.claims.put(updated)
        return updated

    def tell(self, about: Object, type: str, reason: str, message: str) -> None:
        """An event, unless it was the last one about this very version of the object."""
        new = (str(about["metadata"].get("resourceVersion")), reason, message)
        if self._told.get(uid(about)) != new:
            self._told[uid(about)] = new
            self._recorder.event(about, type, reason, message)

    def forget(self, obj: Object) -> None:
        """The object has gone, or nothing will be told of it any more."""
        self._told.pop(uid(obj), None)


def _revision(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)


def _referred(volume: Object) -> Iterable[str]:
    return (claim_key(volume),) if claim_ref(volume) else ()


def _named(claim: Object) -> Iterable[str]:
    named = spec(claim).get("volumeName")
    return (str(named),) if named else ()


def _waiting(claim: Object) -> Iterable[str]:
    bound = BIND_COMPLETED in annotations_of(claim) or spec(claim).get("volumeName")
    return () if bound else (class_of_claim(claim),)
