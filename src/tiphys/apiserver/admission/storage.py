"""Storage: DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize."""

from __future__ import annotations

from tiphys.api import quantity
from tiphys.apiserver.admission.decision import concerns, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader

DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
PROTECTED = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses": "kubernetes.io/vac-protection",
}


class DefaultStorageClass(Plugin):
    """A claim without a class gets the default one; the newest, if there are several."""

    name = "DefaultStorageClass"
    resources = frozenset({("", "persistentvolumeclaims")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if attributes.operation != "CREATE" or claim is None or not concerns(attributes, "", "persistentvolumeclaims"):
            return
        annotations = claim["metadata"].get("annotations") or {}
        if BETA_CLASS in annotations or claim.get("spec", {}).get("storageClassName") is not None:
            return
        defaults = [c for c in self._reader.list("storage.k8s.io", "storageclasses") if _is_default(c)]
        if defaults:
            # Newest first, then by name: sorted twice because the two go opposite ways.
            defaults.sort(key=lambda c: str(c["metadata"]["name"]))
            defaults.sort(key=lambda c: str(c["metadata"].get("creationTimestamp", "")), reverse=True)
            claim.setdefault("spec", {})["storageClassName"] = defaults[0]["metadata"]["name"]


class StorageObjectInUseProtection(Plugin):
    """Claims, volumes and classes of attributes get the finalizer that keeps them while they are in use."""

    name = "StorageObjectInUseProtection"
    resources = frozenset(
        {("", "persistentvolumeclaims"), ("", "persistentvolumes"), ("storage.k8s.io", "volumeattributesclasses")}
    )

    async def admit(self, attributes: Attributes) -> None:
        info, obj = attributes.info, attributes.obj
        finalizer = PROTECTED.get(info.resource)
        if attributes.operation != "CREATE" or obj is None or info.subresource or finalizer is None:
            return
        finalizers = obj["metadata"].get("finalizers") or []
        if finalizer not in finalizers:
            obj["metadata"]["finalizers"] = [*finalizers, finalizer]


class PersistentVolumeClaimResize(Plugin):
    """Claims grow only if they are bound and their class allows it."""

    name = "PersistentVolumeClaimResize"
    resources = frozenset({("", "persistentvolumeclaims")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        if attributes.operation != "UPDATE" or not concerns(attributes, "", "persistentvolumeclaims"):
            return
        if new is None or old is None or _storage(new) <= _storage(old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise refuse(attributes, "Only bound persistent volume claims can be expanded")
        name = (old["metadata"].get("annotations") or {}).get(BETA_CLASS) or new["spec"].get("storageClassName") or ""
        found = self._reader.get("storage.k8s.io", "storageclasses", "", name) if name else None
        if found is None or not found.get("allowVolumeExpansion"):
            raise refuse(
                attributes,
                "only dynamically provisioned pvc can be resized and "
                "the storageclass that provisions the pvc must support resize",
            )


def _is_default(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in DEFAULT_CLASS)


def _storage(claim: Object) -> quantity.Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return quantity.parse(str(requests.get("storage", "0")))
