"""What a pod refers to by name: which secrets, config maps and claims its node may therefore read."""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.apiserver.types import Object

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
SECRET_VOLUMES = {  # volume source -> field that names a secret
    "azureFile": "secretName",
    "secret": "secretName",
}


def secrets(pod: Object) -> Iterator[str]:
    """Names of the secrets that a pod's specification mentions."""
    spec = pod["spec"]
    for reference in spec.get("imagePullSecrets") or ():
        yield reference.get("name", "")
    yield from _environment(spec, "secretKeyRef", "secretRef")
    for volume in spec.get("volumes") or ():
        for source, body in volume.items():
            if isinstance(body, dict):
                yield from _volume_secrets(source, body)


def config_maps(pod: Object) -> Iterator[str]:
    """Names of the config maps that a pod's specification mentions."""
    spec = pod["spec"]
    yield from _environment(spec, "configMapKeyRef", "configMapRef")
    for volume in spec.get("volumes") or ():
        if "configMap" in volume:
            yield volume["configMap"].get("name", "")
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "configMap" in source:
                yield source["configMap"].get("name", "")


def claims(pod: Object) -> Iterator[str]:
    """Names of the persistent volume claims that a pod uses, its own ephemeral ones too."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"].get("claimName", "")
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def resource_claims(pod: Object) -> Iterator[str]:
    """Names of the ResourceClaims that a pod uses: named by it, or made for it."""
    made = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    by_entry = {each.get("name"): each.get("resourceClaimName") for each in made}
    for entry in pod["spec"].get("resourceClaims") or ():
        name = entry.get("resourceClaimName") or by_entry.get(entry.get("name"))
        if name:
            yield name
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    if extended.get("resourceClaimName"):
        yield extended["resourceClaimName"]


def volume_secrets(volume: Object) -> Iterator[tuple[str, str]]:
    """Namespace and name of the Secrets that a kubelet needs for a PersistentVolume."""
    spec = volume.get("spec") or {}
    own = (spec.get("claimRef") or {}).get("namespace", "")
    for source, body in spec.items():
        if not isinstance(body, dict):
            continue
        if source == "azureFile":
            yield body.get("secretNamespace") or own, body.get("secretName", "")
        for field in ("secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"):
            reference = body.get(field)
            if isinstance(reference, dict):
                yield reference.get("namespace") or own, reference.get("name", "")


VOLUMES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
PROJECTIONS = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def to_api(pod: Object) -> str:
    """What kind of API objects a pod refers to, as upstream names the first; "" if none. A node that could make such
    pods for itself could read all of them."""
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    if any(True for _ in secrets(pod)):
        return "secrets"
    if any(True for _ in config_maps(pod)):
        return "configmaps"
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        parts = (volume.get("projected") or {}).get("sources") or ()
        found = [VOLUMES[key] for key in VOLUMES if key in volume]
        found += [PROJECTIONS[key] for part in parts for key in PROJECTIONS if key in part]
        if found:
            return found[0]
    return ""


def _environment(spec: Object, key: str, whole: str) -> Iterator[str]:
    for group in CONTAINERS:
        for container in spec.get(group) or ():
            for source in container.get("envFrom") or ():
                if whole in source:
                    yield source[whole].get("name", "")
            for variable in container.get("env") or ():
                reference = (variable.get("valueFrom") or {}).get(key)
                if reference:
                    yield reference.get("name", "")


def _volume_secrets(source: str, body: Object) -> Iterator[str]:
    if source in SECRET_VOLUMES:
        yield body.get(SECRET_VOLUMES[source], "")
    elif source == "projected":
        for part in body.get("sources") or ():
            if "secret" in part:
                yield part["secret"].get("name", "")
    for field in ("secretRef", "nodePublishSecretRef"):
        if body.get(field):
            yield body[field].get("name", "")
