"""Which ConfigMaps and Secrets a pod refers to: those the kubelet follows for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.kubelet.env import references
from tiphys.kubelet.podspec import Object, all_containers, namespace_of
from tiphys.kubelet.sources import Key
from tiphys.kubelet.volumes.contents import FILLED


def referenced(pod: Object) -> set[Key]:
    """Of its environment, its volumes and its pull Secrets."""
    namespace = namespace_of(pod)
    found = {(plural, namespace, name) for c in all_containers(pod) for plural, name in references(c)}
    for volume in pod["spec"].get("volumes") or ():
        for plural, name in _of_volume(volume):
            found.add((plural, namespace, name))
    for secret in pod["spec"].get("imagePullSecrets") or ():
        if secret.get("name"):
            found.add(("secrets", namespace, str(secret["name"])))
    return found


def _of_volume(volume: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    for source in sources:
        if (config := source.get("configMap")) and config.get("name"):
            yield "configmaps", str(config["name"])
        secret = source.get("secret") or {}
        if name := secret.get("secretName") or secret.get("name"):
            yield "secrets", str(name)


def source_of(volume: Mapping[str, Any]) -> str:
    """The one field besides the name; a volume without any is an emptyDir."""
    return next((key for key in volume if key != "name"), "emptyDir")


def find_volume(pod: Object, name: str) -> Mapping[str, Any] | None:
    """A volume of the pod."""
    return next((one for one in pod["spec"].get("volumes") or () if one["name"] == name), None)


def has_changing_volumes(pod: Object) -> bool:
    """Whether any volume shows labels, annotations, ConfigMaps, Secrets or tokens, which change with time."""
    return any(source_of(volume) in FILLED for volume in pod["spec"].get("volumes") or ())


def used_volumes(pod: Object) -> set[str]:
    """Names of the volumes that some container mounts, has as a device or takes variables from."""
    containers = list(all_containers(pod))
    mounted = {
        one["name"]
        for container in containers
        for kind in ("volumeMounts", "volumeDevices")
        for one in container.get(kind) or ()
    }
    sources = [one.get("valueFrom") or {} for container in containers for one in container.get("env") or ()]
    return mounted | {source["fileKeyRef"]["volumeName"] for source in sources if source.get("fileKeyRef")}
