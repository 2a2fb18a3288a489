"""The volume plugins that the control plane itself has: directories of the host, and NFS for recycling. Pure.

Everything else is made and deleted by somebody outside: a CSI driver, or a provisioner of one's own. Names under
kubernetes.io/ are ours, so one that is not known is an error; any other is somebody's.
Host paths are for tests and development: they are directories of the machine that the manager runs on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.client.events import reference
from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, name, spec, uid
from tiphys.controllers.volume_binding import IN_TREE, IN_TREE_FINALIZER
from tiphys.controllers.volumes import (
    BOUND_BY_CONTROLLER,
    CSI_DRIVERS,
    DELETE,
    MIGRATED_TO,
    PROVISIONED_BY,
    capacity,
    class_of_claim,
    volume_mode,
)

HOST_PATH = "kubernetes.io/host-path"
NFS = "kubernetes.io/nfs"
HOST_PATH_ROOT = "/tmp/"  # noqa: S108 - the place that upstream's plugin is limited to
CREATED_BY = "kubernetes.io/createdby"
RECYCLER_IMAGE = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.6"
RECYCLER_NAMESPACE = "default"
RECYCLER_PREFIX = "recycler-for-"

_GIBI = 2**30
_SCRUB = 'test -e /scrub && find /scrub -mindepth 1 -delete && test -z "$(ls -A /scrub)" || exit 1'


class NoPlugin(Exception):
    """No plugin does that; the text is that of events."""


def provisioner_name(storage_class: Object) -> str:
    """Who makes volumes of the class: a CSI driver where a plugin's work has moved to one."""
    provisioner = str(storage_class.get("provisioner") or "")
    return CSI_DRIVERS.get(provisioner, provisioner)


def provisioner_plugin(storage_class: Object) -> str | None:
    """Our plugin that makes volumes of the class; None if somebody else does. Raises NoPlugin."""
    provisioner = str(storage_class.get("provisioner") or "")
    if provisioner == HOST_PATH:
        return HOST_PATH
    if provisioner in CSI_DRIVERS or not provisioner.startswith(IN_TREE):
        return None
    if provisioner == NFS:
        raise NoPlugin("no provisionable volume plugin matched")
    raise NoPlugin(f"no volume plugin matched name: {provisioner}")


def deleter_plugin(volume: Object) -> str | None:
    """Our plugin that deletes the volume's data; None if somebody else does. Raises NoPlugin."""
    provisioner = annotations_of(volume).get(PROVISIONED_BY)
    if provisioner:
        if provisioner == HOST_PATH:
            return HOST_PATH
        if not provisioner.startswith(IN_TREE):
            return None
        raise NoPlugin(
            "no deletable volume plugin matched"
            if provisioner == NFS
            else f"no volume plugin matched name: {provisioner}"
        )
    if MIGRATED_TO in annotations_of(volume) or spec(volume).get("csi"):
        return None
    if spec(volume).get("hostPath"):
        return HOST_PATH
    why = "no deletable volume plugin matched" if spec(volume).get("nfs") else "no volume plugin matched"
    raise NoPlugin(f'error getting deleter volume plugin for volume "{name(volume)}": {why}')


def deletable_path(volume: Object) -> str:
    """The directory of a host path volume that may be deleted. Raises NoPlugin for any other place."""
    path = str((spec(volume).get("hostPath") or {}).get("path") or "")
    inside = path.startswith(HOST_PATH_ROOT) and len(path) > len(HOST_PATH_ROOT) and ".." not in path.split("/")
    if not inside:
        raise NoPlugin(f"host_path deleter only supports /tmp/.+ but received provided {path}")
    return path


def provisioning_problem(claim: Object, storage_class: Object, *, enabled: bool) -> str | None:
    """Why our host path plugin makes no volume for the claim; None if it does."""
    if spec(claim).get("dataSource"):
        return f'plugin "{HOST_PATH}" is not a CSI plugin. Only CSI plugin can provision a claim with a datasource'
    options = storage_class.get("mountOptions")
    if options:
        return (
            "Mount options are not supported by the provisioner but StorageClass "
            f'"{name(storage_class)}" has mount options [{" ".join(options)}]'
        )
    if not enabled:
        return f'Failed to create provisioner: provisioning in volume plugin "{HOST_PATH}" is disabled'
    return None


def volume_name(claim: Object) -> str:
    """The name of the volume that is made for a claim: one, however often it is tried."""
    return f"pvc-{uid(claim)}"


def host_path_volume(claim: Object, storage_class: Object, path: str) -> Mapping[str, Any]:
    """The volume for a claim, bound to it from the start. Raises NoPlugin for a block volume."""
    if volume_mode(claim) == "Block":
        raise NoPlugin(f"{HOST_PATH} does not support block volume provisioning")
    policy = storage_class.get("reclaimPolicy") or DELETE
    meta: dict[str, Any] = {
        "name": volume_name(claim),
        "annotations": {
            CREATED_BY: "hostpath-dynamic-provisioner",
            BOUND_BY_CONTROLLER: "yes",
            PROVISIONED_BY: HOST_PATH,
        },
    }
    if policy == DELETE:
        meta["finalizers"] = [IN_TREE_FINALIZER]
    requests = (spec(claim).get("resources") or {}).get("requests") or {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": meta,
        "spec": {
            "persistentVolumeReclaimPolicy": policy,
            "accessModes": spec(claim).get("accessModes") or ["ReadWriteOnce"],
            "capacity": {"storage": requests.get("storage", "0")},
            "hostPath": {"path": path},
            "claimRef": reference(claim),
            "storageClassName": class_of_claim(claim),
        },
    }


def recycler_template() -> Mapping[str, Any]:
    """The pod that empties volumes, unless a setting names a file with another one."""
    container = {
        "name": "pv-recycler",
        "image": RECYCLER_IMAGE,
        "command": ["/bin/sh"],
        "args": ["-c", _SCRUB],
        "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": RECYCLER_NAMESPACE},
        "spec": {"restartPolicy": "Never", "volumes": [{"name": "vol"}], "containers": [container]},
    }


def recycler_plugin(volume: Object) -> str | None:
    """The plugin that can empty the volume."""
    sources = {"hostPath": HOST_PATH, "nfs": NFS}
    return next((plugin for source, plugin in sources.items() if spec(volume).get(source)), None)


def recycler_pod(volume: Object, template: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod that empties this volume: the template with the volume in its first place, and a time limit.

    `settings` are by upstream's flags: seconds that it may take at least, and for each gibibyte."""
    host = recycler_plugin(volume) == HOST_PATH
    least = "pv-recycler-minimum-timeout-hostpath" if host else "pv-recycler-minimum-timeout-nfs"
    each = "pv-recycler-timeout-increment-hostpath" if host else "pv-recycler-increment-timeout-nfs"
    size = capacity(volume).value // _GIBI
    seconds = max(int(settings.get(least, 60 if host else 300)), size * int(settings.get(each, 30)))
    source, fields = ("hostPath", ("path",)) if host else ("nfs", ("server", "path"))
    given = spec(volume)[source]
    first, *others = template["spec"]["volumes"]
    mounted = {"name": first.get("name"), source: {field: given.get(field) for field in fields}}
    meta = {key: value for key, value in template["metadata"].items() if key != "generateName"}
    named = {"namespace": RECYCLER_NAMESPACE, **meta, "name": f"{RECYCLER_PREFIX}{name(volume)}"}
    body = {**template["spec"], "activeDeadlineSeconds": seconds, "volumes": [mounted, *others]}
    return {**template, "metadata": named, "spec": body}
