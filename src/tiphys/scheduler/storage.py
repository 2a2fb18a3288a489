"""The scheduler's picture of storage: claims, volumes and classes, and which volumes are promised to whom.

A volume that was chosen for a claim counts as that claim's until the server shows it, so that the next decision does
not promise it again. Source: "Storage Classes", Volume binding mode, in the documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.quantity import ZERO, Quantity, parse
from tiphys.api.selectors import from_object

Object = Mapping[str, Any]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
ONE_POD = "ReadWriteOncePod"


@dataclass(frozen=True, slots=True)
class Use:
    """A pod's use of a claim; `ephemeral` ones are made for the pod."""

    key: str
    ephemeral: bool = False

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]


def uses(pod: Object) -> Iterator[Use]:
    """The claims that a pod names, and those that are made for it."""
    meta = pod["metadata"]
    for volume in pod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield Use(f"{meta['namespace']}/{claim.get('claimName')}")
        elif volume.get("ephemeral") is not None:
            yield Use(f"{meta['namespace']}/{meta['name']}-{volume['name']}", ephemeral=True)


class Storage:
    """All claims, volumes and classes. Used on one event loop."""

    def __init__(self) -> None:
        self.claims: dict[str, Object] = {}
        """By NAMESPACE/NAME."""
        self.volumes: dict[str, Object] = {}
        self.classes: dict[str, Object] = {}
        self._promised: dict[str, str] = {}

    def claim_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's event about a claim."""
        _put(self.claims, key_of(new or old or {}), new)

    def volume_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's event about a volume."""
        name = str((new or old or {})["metadata"]["name"])
        _put(self.volumes, name, new)
        if new is None or new["spec"].get("claimRef"):
            self._promised.pop(name, None)

    def class_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's event about a StorageClass."""
        _put(self.classes, str((new or old or {})["metadata"]["name"]), new)

    def promise(self, volume: str, claim: str) -> None:
        """The volume is chosen for the claim of that key; told to the server soon."""
        self._promised[volume] = claim

    def take_back(self, volume: str) -> None:
        """It could not be told."""
        self._promised.pop(volume, None)

    def class_of(self, claim: Object) -> Object | None:
        return self.classes.get(class_name(claim))

    def candidates(self, claim: Object) -> list[Object]:
        """Volumes that would do for a claim that waits for its consumer, the best first: those kept for it, then the
        smallest. None for a claim whose selector cannot be read: the binder's event says so."""
        selector = claim["spec"].get("selector")
        try:
            chosen = None if selector is None else from_object(selector)
        except ValueError:
            return []
        found = [
            volume
            for volume in self.volumes.values()
            if self._free(volume, claim)
            and fits(volume, claim)
            and (chosen is None or chosen.matches(volume["metadata"].get("labels") or {}))
        ]
        return sorted(
            found, key=lambda each: (not each["spec"].get("claimRef"), capacity(each), each["metadata"]["name"])
        )

    def _free(self, volume: Object, claim: Object) -> bool:
        ref = volume["spec"].get("claimRef")
        if ref:
            same = (ref.get("namespace"), ref.get("name")) == tuple(key_of(claim).split("/"))
            return same and ref.get("uid") in (None, "", claim["metadata"]["uid"])
        promised = self._promised.get(volume["metadata"]["name"])
        available = (volume.get("status") or {}).get("phase") == "Available"
        return available and promised in (None, key_of(claim)) and not volume["metadata"].get("deletionTimestamp")


def fits(volume: Object, claim: Object) -> bool:
    """Whether a volume is what the claim asks for: its class, size, modes."""
    spec, wanted = volume["spec"], claim["spec"]
    requests = (wanted.get("resources") or {}).get("requests") or {}
    return (
        class_name(volume) == class_name(claim)
        and (spec.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
        and (spec.get("volumeAttributesClassName") or "") == (wanted.get("volumeAttributesClassName") or "")
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and capacity(volume) >= _quantity(requests.get("storage"))
    )


def capacity(volume: Object) -> Quantity:
    return _quantity((volume["spec"].get("capacity") or {}).get("storage"))


def _quantity(text: Any) -> Quantity:
    """An amount of storage; what is no amount counts as none, as for the binder."""
    try:
        return parse(str(text)) if text else ZERO
    except ValueError:
        return ZERO


def class_name(held: Object) -> str:
    """The StorageClass of a claim or a volume; the annotation of old comes first."""
    annotations = held["metadata"].get("annotations") or {}
    return str(annotations.get(BETA_CLASS) or held["spec"].get("storageClassName") or "")


def key_of(claim: Object) -> str:
    meta = claim["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def is_bound(claim: Object) -> bool:
    annotations = claim["metadata"].get("annotations") or {}
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations


def selected_node(claim: Object) -> str:
    """The node for which a volume is to be made; "" if none."""
    return str((claim["metadata"].get("annotations") or {}).get(SELECTED_NODE) or "")


def waits_for_consumer(storage_class: Object | None) -> bool:
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def _put(table: dict[str, Object], key: str, new: Object | None) -> None:
    if new is None:
        table.pop(key, None)
    else:
        table[key] = new
