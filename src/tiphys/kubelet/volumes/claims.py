"""Claims of pods and the volumes they are bound to: persistentVolumeClaim and ephemeral volumes.

The claim and its volume are read when they are needed: the Node authorizer lets a node get those that its pods use.
Source: "Persistent Volumes", "Ephemeral Volumes" and "Raw Block Volume Support" in the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import ApiError
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.types import Client
from tiphys.kubelet.podspec import Object, all_containers, name_of, namespace_of, uid_of
from tiphys.kubelet.volumes.payload import VolumeError

_PROTECTION = "kubernetes.io/pvc-protection"
_GROUP = "pv.beta.kubernetes.io/gid"


class NotReady(VolumeError):
    """The claim is not to be had (yet): said at once, as a volume that cannot be processed."""


class BoundError(VolumeError):
    """What the claim is bound to cannot be set up; `volume` is the name of the PersistentVolume."""

    def __init__(self, volume: str, error: VolumeError | OSError) -> None:
        step = {"step": error.step} if isinstance(error, VolumeError) else {}
        super().__init__(str(error), **step)
        self.volume = volume


@dataclass(frozen=True, slots=True)
class Bound:
    """A volume that a claim of the pod's is bound to."""

    volume: Object
    readonly: bool
    block: bool
    access_modes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[int, ...]:
        """GIDs that its annotation asks containers to have besides their own."""
        found = str((self.volume["metadata"].get("annotations") or {}).get(_GROUP) or "")
        return (int(found),) if found.isdigit() and int(found) > 0 else ()


class Claims:
    """Finds the volumes of claims."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def bound(self, pod: Object, volume: Mapping[str, Any]) -> Bound:
        """What a volume of the pod is. Raises NotReady."""
        claim = await self._claim(pod, volume)
        readonly = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
        found = await self._volume(claim)
        block = (found["spec"].get("volumeMode") or "Filesystem") == "Block"
        _check_mode(pod, str(volume["name"]), block)
        return Bound(found, readonly, block, tuple(found["spec"].get("accessModes") or ()))

    async def _claim(self, pod: Object, volume: Mapping[str, Any]) -> Object:
        namespace, owned = namespace_of(pod), "ephemeral" in volume
        name = f"{name_of(pod)}-{volume['name']}" if owned else str(volume["persistentVolumeClaim"]["claimName"])
        failed = f"error processing PVC {namespace}/{name}"
        try:
            claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        except (ApiError, OSError) as error:
            raise NotReady(f"{failed}: failed to fetch PVC from API server: {error}") from error
        meta = claim["metadata"]
        if meta.get("deletionTimestamp") and _PROTECTION not in (meta.get("finalizers") or ()):
            raise NotReady(f"{failed}: PVC is being deleted")
        if (claim.get("status") or {}).get("phase") != "Bound":
            raise NotReady(f"{failed}: PVC is not bound")
        if not claim["spec"].get("volumeName"):
            raise NotReady(f"{failed}: PVC has empty pvc.Spec.VolumeName")
        owners = meta.get("ownerReferences") or ()
        if owned and not any(each.get("controller") and each["uid"] == uid_of(pod) for each in owners):
            whose = f"pod {namespace}/{name_of(pod)} (pod is not owner)"
            raise NotReady(f"PVC {namespace}/{name} was not created for {whose}")
        return claim

    async def _volume(self, claim: Object) -> Object:
        name = str(claim["spec"]["volumeName"])
        failed = f"error processing PVC {namespace_of(claim)}/{name_of(claim)}"
        try:
            volume = await self._client.get(PERSISTENT_VOLUMES, name)
        except (ApiError, OSError) as error:
            raise NotReady(f"{failed}: failed to fetch PV {name} from API server: {error}") from error
        reference = volume["spec"].get("claimRef")
        if reference is None:
            text = "it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
            raise NotReady(f"{failed}: found PV object {name} but {text}")
        if reference.get("uid") != uid_of(claim):
            text = f"its pv.Spec.ClaimRef.UID {reference.get('uid', '')} does not point to claim.UID {uid_of(claim)}"
            raise NotReady(f"{failed}: found PV object {name} but {text}")
        return volume


def _check_mode(pod: Object, name: str, block: bool) -> None:
    """Block volumes are devices, others are mounted. Raises NotReady."""
    field, mode = ("volumeMounts", "Block") if block else ("volumeDevices", "Filesystem")
    if any(one["name"] == name for container in all_containers(pod) for one in container.get(field) or ()):
        raise NotReady(f"volume {name} has volumeMode {mode}, but is specified in {field}")
