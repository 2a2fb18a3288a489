"""ephemeral-volume-controller: makes the claims of pods' generic ephemeral volumes.

The claim is named after the pod and the volume and belongs to the pod, with which it goes. A claim of that name that
is not the pod's is never used: the pod waits, and an event says why. Source: KEP-1698, "Ephemeral Volumes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.errors import AlreadyExists, ApiError, Retry
from tiphys.client.events import WARNING
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import controlled_by, controller_of, deleting, name, namespace, spec, uid
from tiphys.controllers.volumes import claims_of, ephemeral_claim_name


def ephemeral_claim(pod: Object, volume: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claim for a pod's generic ephemeral volume."""
    template = volume["ephemeral"].get("volumeClaimTemplate") or {}
    meta = template.get("metadata") or {}
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": name(pod),
        "uid": uid(pod),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    kept = {field: meta[field] for field in ("annotations", "labels") if meta.get(field)}
    named = {"name": ephemeral_claim_name(pod, volume), "namespace": namespace(pod)}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**named, "ownerReferences": [owner], **kept},
        "spec": template.get("spec") or {},
    }


def foreign(pod: Object, claim: Object) -> str | None:
    """Why the claim of the right name is not the pod's; None if it is."""
    if controlled_by(claim, pod):
        return None
    pods = f"{namespace(pod)}/{name(pod)}"
    return f"PVC {namespace(claim)}/{name(claim)} was not created for pod {pods} (pod is not owner)"


class EphemeralVolumeController(Controller):
    name = "ephemeral-volume-controller"
    account = "ephemeral-volume-controller"
    component = "ephemeral_volume"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._pods = self.watch(PODS)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        self._pods.add_index("claims", claims_of)
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)

    async def reconcile(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        if pod is None or deleting(pod):
            return None
        for volume in spec(pod).get("volumes") or ():
            if volume.get("ephemeral") is not None and not await self._ensure(pod, volume):
                break
        return None

    async def _ensure(self, pod: Object, volume: Mapping[str, Any]) -> bool:
        """Whether the volume has its claim, now. Raises AlreadyExists if the cache is behind, Retry."""
        present = self._claims.get(namespace(pod), ephemeral_claim_name(pod, volume))
        if present is not None:
            problem = foreign(pod, present)
            if problem is not None:  # its owners or its end will bring the pod back
                self._tell(pod, volume, problem)
            return problem is None
        claim = ephemeral_claim(pod, volume)
        try:
            await self.client.create(PERSISTENT_VOLUME_CLAIMS, claim, namespace(pod))
        except AlreadyExists:
            raise
        except ApiError as error:
            problem = f"create PVC {claim['metadata']['name']}: {error}"
            self._tell(pod, volume, problem)
            raise Retry(problem) from error
        return True

    def _tell(self, pod: Object, volume: Mapping[str, Any], problem: str) -> None:
        message = f"ephemeral volume {volume.get('name')}: {problem}"
        self.recorder.event(pod, WARNING, "FailedBinding", message)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            self._add(new)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        """A claim that was deleted is made again; one of another owner may have become the pod's."""
        if old is not None and (new is None or controller_of(old) != controller_of(new)):
            for pod in self._pods.by_index("claims", key_of(old)):
                self._add(pod)

    def _add(self, pod: Object) -> None:
        if not deleting(pod) and any(volume.get("ephemeral") is not None for volume in spec(pod).get("volumes") or ()):
            self.queue.add(key_of(pod))
