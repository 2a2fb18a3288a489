"""What of the API a static pod's manifest refers to: such pods are refused, they could not run alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.kubelet.podspec import Object, all_containers

_VOLUMES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_SOURCES = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def api_reference(pod: Object) -> str:
    """The first kind of object that the pod refers to, in upstream's words; "" for none."""
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    found = set(_named(pod))
    for kind in ("secrets", "configmaps"):
        if kind in found:
            return kind
    if spec.get("resourceClaims"):
        return "resourceclaims"
    return next((reference for volume in spec.get("volumes") or () for reference in _of_volume(volume)), "")


def _named(pod: Object) -> Iterator[str]:
    """secrets and configmaps that are named anywhere."""
    if pod["spec"].get("imagePullSecrets"):
        yield "secrets"
    for container in all_containers(pod):
        for source in container.get("envFrom") or ():
            yield from _in(source, "secretRef", "configMapRef")
        for variable in container.get("env") or ():
            yield from _in(variable.get("valueFrom") or {}, "secretKeyRef", "configMapKeyRef")
    for volume in pod["spec"].get("volumes") or ():
        yield from _in(volume, "secret", "configMap")
        if any(_has_secret(value) for value in volume.values()):
            yield "secrets"
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _in(source, "secret", "configMap")


def _in(value: Mapping[str, Any], secret: str, config: str) -> Iterator[str]:
    if value.get(secret):
        yield "secrets"
    if value.get(config):
        yield "configmaps"


def _has_secret(volume: Any) -> bool:
    """Whether a volume's plugin is told of a Secret (rbd, scaleIO, csi ...)."""
    names = ("secretRef", "secretName", "nodePublishSecretRef")
    return isinstance(volume, Mapping) and any(volume.get(name) for name in names)


def _of_volume(volume: Mapping[str, Any]) -> Iterator[str]:
    for name, reference in _VOLUMES.items():
        if volume.get(name) is not None:
            yield reference
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from (reference for name, reference in _SOURCES.items() if source.get(name) is not None)
