"""Volumes and claims in use are not deleted: each carries a finalizer until nobody uses it.

A PersistentVolumeClaim may go when no pod that still runs names it, a PersistentVolume when no claim is bound to it, a
VolumeAttributesClass when no claim and no volume has or wants it.
Admission adds the finalizers (StorageObjectInUseProtection); these controllers add missing ones and take them away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tiphys.client.informer import Informer
from tiphys.client.reconcile import Result
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES
from tiphys.client.types import Object, Resource
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, finalizers, name, namespace, spec, status

PVC_FINALIZER = "kubernetes.io/pvc-protection"
PV_FINALIZER = "kubernetes.io/pv-protection"
VAC_FINALIZER = "kubernetes.io/vac-protection"


def claims_of(pod: Object) -> Iterable[str]:
    """Keys of the claims that a pod uses, those made for its ephemeral volumes included."""
    if status(pod).get("phase") in ("Succeeded", "Failed"):
        return
    for volume in spec(pod).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield f"{namespace(pod)}/{volume['persistentVolumeClaim']['claimName']}"
        elif volume.get("ephemeral"):
            yield f"{namespace(pod)}/{name(pod)}-{volume['name']}"


def classes_of(held: Object) -> set[str]:
    """Names of the VolumeAttributesClasses that a claim or volume has or is to have."""
    target = (status(held).get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    named = (spec(held).get("volumeAttributesClassName"), status(held).get("currentVolumeAttributesClassName"), target)
    return {name for name in named if name}


def wanted(held: Object, finalizer: str, used: bool) -> list[str] | None:
    """The finalizers that the object should have; None if it has them."""
    current = list(finalizers(held))
    if deleting(held):
        return [one for one in current if one != finalizer] if finalizer in current and not used else None
    return None if finalizer in current else [*current, finalizer]


class _Protection(Controller):
    """Keys are those of `resource`."""

    resource: ClassVar[Resource]
    finalizer: ClassVar[str]

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.held: Informer = self.watch(self.resource)
        self.held.subscribe(self.enqueue)

    def used(self, key: str, held: Object) -> bool:
        """Whether somebody needs it still."""
        raise NotImplementedError

    async def reconcile(self, key: str) -> Result | None:
        held = self.held.by_key(key)
        left = None if held is None else wanted(held, self.finalizer, self.used(key, held))
        if held is not None and left is not None:
            meta = {**held["metadata"], "finalizers": left}
            await self.client.update(self.resource, {**held, "metadata": meta}, namespace(held))
        return None


class ClaimProtectionController(_Protection):
    name = "persistentvolumeclaim-protection-controller"
    account = "pvc-protection-controller"
    resource = PERSISTENT_VOLUME_CLAIMS
    finalizer = PVC_FINALIZER

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._pods = self.watch(PODS)
        self._pods.add_index("claims", claims_of)
        self._pods.subscribe(self._pod_changed)

    def used(self, key: str, held: Object) -> bool:
        return bool(self._pods.by_index("claims", key))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for key in claims_of(pod) if pod is not None else ():
                self.queue.add(key)


class VolumeProtectionController(_Protection):
    name = "persistentvolume-protection-controller"
    account = "pv-protection-controller"
    resource = PERSISTENT_VOLUMES
    finalizer = PV_FINALIZER

    def used(self, key: str, held: Object) -> bool:
        return status(held).get("phase") == "Bound"


class AttributesClassProtectionController(_Protection):
    name = "volumeattributesclass-protection-controller"
    account = "volumeattributesclass-protection-controller"
    resource = VOLUME_ATTRIBUTES_CLASSES
    finalizer = VAC_FINALIZER

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._users = (self.watch(PERSISTENT_VOLUME_CLAIMS), self.watch(PERSISTENT_VOLUMES))
        for users in self._users:
            users.add_index("classes", classes_of)
            users.subscribe(self._user_changed)

    def used(self, key: str, held: Object) -> bool:
        return any(users.by_index("classes", key) for users in self._users)

    def _user_changed(self, old: Object | None, new: Object | None) -> None:
        for user in (old, new):
            for key in classes_of(user) if user is not None else ():
                self.queue.add(key)
