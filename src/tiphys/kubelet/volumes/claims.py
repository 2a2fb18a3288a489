"""Volumes of claims: persistentVolumeClaim and ephemeral, as far as what they are bound to is a path of this node.

The claim and its volume are read when they are needed: the Node authorizer lets a node get those that its pods use.
Source: "Persistent Volumes" and "Ephemeral Volumes" in the documentation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.types import Client
from tiphys.kubelet.podspec import Object, name_of, namespace_of, uid_of
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.ownership import give_to_group
from tiphys.kubelet.volumes.payload import VolumeError

_NO_SOURCE = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)
"""Fields of a PersistentVolume's spec that do not say what it is."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Where a claim's files are on this node."""

    path: Path
    readonly: bool


class Claims:
    """Finds the volumes of claims."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def prepare(self, pod: Object, volume: Mapping[str, Any]) -> Claimed:
        """Where the files of a pod's volume are, with the owners that the pod asks for. Raises VolumeError."""
        claim = await self._claim(pod, volume)
        bound = await self._volume(claim)
        source = bound["spec"]
        readonly = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
        if "hostPath" in source:
            return Claimed(prepare_host_path(source["hostPath"]), readonly)
        if "local" not in source:
            kind = next((field for field in source if field not in _NO_SOURCE), "unknown")
            raise VolumeError(f"persistent volumes of type {kind} are not supported by this node")
        path = _local_path(bound)
        if not readonly:
            await _set_group(path, pod["spec"].get("securityContext") or {})
        return Claimed(path, readonly)

    async def _claim(self, pod: Object, volume: Mapping[str, Any]) -> Object:
        namespace, owned = namespace_of(pod), "ephemeral" in volume
        name = f"{name_of(pod)}-{volume['name']}" if owned else str(volume["persistentVolumeClaim"]["claimName"])
        failed = f"error processing PVC {namespace}/{name}"
        try:
            claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        except (ApiError, OSError) as error:
            raise VolumeError(f"{failed}: failed to fetch PVC from API server: {error}") from error
        owners = claim["metadata"].get("ownerReferences") or ()
        if owned and not any(each.get("controller") and each["uid"] == uid_of(pod) for each in owners):
            raise VolumeError(
                f"PVC {namespace}/{name} was not created for pod {namespace}/{name_of(pod)} (pod is not owner)"
            )
        if claim["metadata"].get("deletionTimestamp"):
            raise VolumeError(f"{failed}: PVC is being deleted")
        if (claim.get("status") or {}).get("phase") != "Bound" or not claim["spec"].get("volumeName"):
            raise VolumeError(f"{failed}: PVC is not bound")
        if claim["spec"].get("volumeMode") == "Block":
            raise VolumeError(f"{failed}: raw block volumes are not supported by this node")
        return claim

    async def _volume(self, claim: Object) -> Object:
        name = str(claim["spec"]["volumeName"])
        try:
            volume = await self._client.get(PERSISTENT_VOLUMES, name)
        except NotFound as error:
            raise VolumeError(f'persistentvolume "{name}" not found') from error
        except (ApiError, OSError) as error:
            raise VolumeError(f"failed to fetch PV {name} from API server: {error}") from error
        if (volume["spec"].get("claimRef") or {}).get("uid") != uid_of(claim):
            raise VolumeError(f'PV "{name}" is not bound to PVC {namespace_of(claim)}/{name_of(claim)}')
        return volume


def _local_path(volume: Object) -> Path:
    path = Path(str(volume["spec"]["local"]["path"]))
    if not path.is_dir():
        raise VolumeError(f'path "{path}" of local volume "{name_of(volume)}" is not a directory of this node')
    return path


async def _set_group(path: Path, context: Mapping[str, Any]) -> None:
    """As fsGroup and its policy ask for; a big volume takes its time, in a thread."""
    if context.get("fsGroup") is not None:
        always = context.get("fsGroupChangePolicy") != "OnRootMismatch"
        await asyncio.to_thread(give_to_group, path, int(context["fsGroup"]), always=always)
