"""Volumes and claims in use are not deleted: each carries a finalizer until nobody uses it.

A PersistentVolumeClaim may go when no pod that has a node names it, a PersistentVolume when no claim is bound to it, a
VolumeAttributesClass when no claim and no volume has or wants it.
Admission adds the finalizers (StorageObjectInUseProtection); these controllers add missing ones and take them away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tiphys.base.errors import NotFound
from tiphys.client.informer import Informer, key_of, split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES
from tiphys.client.types import Client, Object, Resource
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, finalizers, namespace, spec, status
from tiphys.controllers.volumes import claims_of, names_claim, owns_claim

PVC_FINALIZER = "kubernetes.io/pvc-protection"
PV_FINALIZER = "kubernetes.io/pv-protection"
VAC_FINALIZER = "kubernetes.io/vac-protection"


def holds(pod: Object, claim: Object) -> bool:
    """Whether the pod keeps a claim that is to be deleted.

    A pod without a node does not: no kubelet starts a pod whose claim is being deleted. A pod that is over does, until
    it is deleted. A pod of which only the object is left keeps no ephemeral claim: it may itself wait for that."""
    if not spec(pod).get("nodeName"):
        return False
    return names_claim(pod, claim) or (owns_claim(pod, claim) and not _shut_down(pod))


def _shut_down(pod: Object) -> bool:
    return deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0


def classes_of(held: Object) -> set[str]:
    """Names of the VolumeAttributesClasses that a claim or volume has or is to have."""
    target = (status(held).get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    named = (spec(held).get("volumeAttributesClassName"), status(held).get("currentVolumeAttributesClassName"), target)
    return {name for name in named if name}


def wanted(held: Object, finalizer: str, *, used: bool) -> list[str] | None:
    """The finalizers that the object should have; None if it has them."""
    current = list(finalizers(held))
    if deleting(held):
        return [one for one in current if one != finalizer] if finalizer in current and not used else None
    return None if finalizer in current else [*current, finalizer]


async def put_finalizers(client: Client, resource: Resource, held: Object, left: Sequence[str]) -> None:
    """Write the object's finalizers; one that has gone needs none. Raises Conflict."""
    meta = {**held["metadata"], "finalizers": list(left)}
    try:
        await client.update(resource, {**held, "metadata": meta}, namespace(held))
    except NotFound:
        return


class ClaimProtectionController(Controller):
    """Keys are namespaces: before claims are let go the server is asked for pods, once for all claims of a namespace.

    The cache may not know yet of a pod that was made and got a node just now."""

    name = "persistentvolumeclaim-protection-controller"
    account = "pvc-protection-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._due: dict[str, set[str]] = {}
        self._pods = self.watch(PODS)
        self._pods.add_index("claims", claims_of)
        self._pods.subscribe(self._pod_changed)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        self._claims.subscribe(self._claim_changed)

    async def reconcile(self, key: str) -> Result | None:
        due = self._due.pop(key, set())
        try:
            await self._settle(key, due)
        except BaseException:
            self._due.setdefault(key, set()).update(due)
            raise
        return None

    async def _settle(self, place: str, due: set[str]) -> None:
        live: tuple[Object, ...] | None = None
        for name in sorted(due):
            claim = self._claims.get(place, name)
            left = None if claim is None else wanted(claim, PVC_FINALIZER, used=self._known_user(claim))
            if claim is not None and left is not None:
                if deleting(claim) and live is None:
                    live = (await self.client.list(PODS, place)).items
                if not deleting(claim) or not any(holds(pod, claim) for pod in live or ()):
                    await put_finalizers(self.client, PERSISTENT_VOLUME_CLAIMS, claim, left)
            due.discard(name)

    def _known_user(self, claim: Object) -> bool:
        return any(holds(pod, claim) for pod in self._pods.by_index("claims", key_of(claim)))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (deleting(new) or PVC_FINALIZER not in finalizers(new)):
            self._add(key_of(new))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for key in claims_of(pod) if pod is not None else ():
                claim = self._claims.by_key(key)
                if claim is not None and deleting(claim):
                    self._add(key)

    def _add(self, key: str) -> None:
        place, name = split_key(key)
        self._due.setdefault(place, set()).add(name)
        self.queue.add(place)


class _Protection(Controller):
    """Keys are those of `resource`."""

    resource: ClassVar[Resource]
    finalizer: ClassVar[str]

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.held: Informer = self.watch(self.resource)
        self.held.subscribe(self._held_changed)

    def used(self, key: str, held: Object) -> bool:
        """Whether somebody needs it still."""
        raise NotImplementedError

    async def reconcile(self, key: str) -> Result | None:
        held = self.held.by_key(key)
        left = None if held is None else wanted(held, self.finalizer, used=self.used(key, held))
        if held is not None and left is not None:
            await put_finalizers(self.client, self.resource, held, left)
        return None

    def _held_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (deleting(new) or self.finalizer not in finalizers(new)):
            self.queue.add(key_of(new))


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
        """Those that it had or wanted before and does not now may be let go."""
        before = classes_of(old) if old is not None else set()
        for key in before - (classes_of(new) if new is not None else set()):
            self.queue.add(key)
