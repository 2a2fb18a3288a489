"""persistentvolume-expander-controller: sees to claims that were made larger.

Who has made the volume makes it larger: a CSI driver's resizer, or whoever else looks after it. An event on the claim
says that it is waited for; where a plugin of old is served by a CSI driver, the claim gets the driver's name, too.
Source: "Expanding Persistent Volumes Claims" in the documentation, KEP-625.
"""

from __future__ import annotations

from tiphys.base.errors import Retry
from tiphys.client.events import NORMAL
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import annotations_of, namespace, spec, status, uid
from tiphys.controllers.volumes import BOUND, CSI_DRIVERS, PRE_RESIZE_CAPACITY, claim_ref, granted, requested

RESIZER = "volume.kubernetes.io/storage-resizer"
EXTERNAL = "ExternalExpanding"

_SOURCES = {
    "awsElasticBlockStore": "kubernetes.io/aws-ebs",
    "azureDisk": "kubernetes.io/azure-disk",
    "azureFile": "kubernetes.io/azure-file",
    "cinder": "kubernetes.io/cinder",
    "gcePersistentDisk": "kubernetes.io/gce-pd",
    "portworxVolume": "kubernetes.io/portworx-volume",
    "vsphereVolume": "kubernetes.io/vsphere-volume",
}


def grown(old: Object | None, new: Object) -> bool:
    """Whether a bound claim asks for more than before, or has got more."""
    if status(new).get("phase") != BOUND:
        return False
    return old is None or requested(new) > requested(old) or granted(new) > granted(old)


def to_expand(claim: Object, volume: Object) -> bool:
    """Whether the claim asks for more than it has, or an expansion was not completed."""
    return requested(claim) > granted(claim) or PRE_RESIZE_CAPACITY in annotations_of(volume)


def bound_together(claim: Object, volume: Object) -> bool:
    ref = claim_ref(volume) or {}
    return ref.get("uid") == uid(claim) and (ref.get("namespace") or "") == namespace(claim)


def migrated_plugin(volume: Object) -> str | None:
    """The plugin of old whose volumes a CSI driver looks after now."""
    return next((plugin for source, plugin in _SOURCES.items() if spec(volume).get(source)), None)


class VolumeExpanderController(Controller):
    name = "persistentvolume-expander-controller"
    account = "expand-controller"
    component = "volume_expand"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = self.watch(PERSISTENT_VOLUMES)
        self._claims.subscribe(self._changed)

    async def reconcile(self, key: str) -> Result | None:
        claim = self._claims.by_key(key)
        if claim is None or not spec(claim).get("volumeName"):
            return None
        volume = self._volumes.by_key(spec(claim)["volumeName"])
        if volume is None or not bound_together(claim, volume):
            raise Retry(f"the volume of claim {key} is not bound to it")
        if to_expand(claim, volume):
            await self._expand(claim, volume)
        return None

    async def _expand(self, claim: Object, volume: Object) -> None:
        plugin = migrated_plugin(volume)
        if plugin is None:
            message = "waiting for an external controller to expand this PVC"
            self.recorder.event(claim, NORMAL, EXTERNAL, message)
            return
        message = f"CSI migration enabled for {plugin}; waiting for external resizer to expand the pvc"
        self.recorder.event(claim, NORMAL, EXTERNAL, message)
        driver = CSI_DRIVERS[plugin]
        if annotations_of(claim).get(RESIZER) != driver:
            meta = {"annotations": {RESIZER: driver}, "resourceVersion": claim["metadata"]["resourceVersion"]}
            name = claim["metadata"]["name"]
            patch = {"metadata": meta}
            await self.client.patch(PERSISTENT_VOLUME_CLAIMS, name, patch, namespace(claim), subresource="status")

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and grown(old, new):
            self.queue.add(key_of(new))
