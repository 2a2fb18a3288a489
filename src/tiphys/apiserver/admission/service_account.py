"""ServiceAccount: every pod runs as an account of its namespace and gets a token for the API in a volume."""

from __future__ import annotations

from typing import Any

from tiphys.api.meta import random_suffix
from tiphys.api.validation.names import path_segment
from tiphys.apiserver.admission.decision import concerns, creates_pod, refuse
from tiphys.apiserver.authz import references
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader

MIRROR = "kubernetes.io/config.mirror"
ENFORCE_SECRETS = "kubernetes.io/enforce-mountable-secrets"
VOLUME = "kube-api-access"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
PATIENCE = 1.0
"""Seconds: a namespace's default account comes a moment after the namespace, and is waited for so long."""


class ServiceAccount(Plugin):
    name = "ServiceAccount"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        if pod is None or _is_mirror(pod):
            return
        spec = pod["spec"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes, name)
        if _automounts(account, spec):
            mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": secret["name"]} for secret in account["imagePullSecrets"]]

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation == "UPDATE" and concerns(attributes, "", "pods", "ephemeralcontainers"):
            pod = attributes.obj
            groups: tuple[str, ...] = ("ephemeralContainers",)
        else:
            pod = creates_pod(attributes)
            groups = ("initContainers", "containers")
        if pod is None:
            return
        if _is_mirror(pod):
            _check_mirror(attributes, pod)
            return
        spec = pod["spec"]
        account = await self._account(attributes, spec.get("serviceAccountName", ""))
        annotations = account["metadata"].get("annotations") or {}
        if str(annotations.get(ENFORCE_SECRETS, "")).lower() in ("true", "1", "t"):
            problem = _disallowed(account, spec, groups)
            if problem:
                raise refuse(attributes, problem)

    async def _account(self, attributes: Attributes, name: str) -> Object:
        namespace = attributes.info.namespace
        account = self._reader.get("", "serviceaccounts", namespace, name)
        if account is None and name == "default":
            account = await self._reader.wait_exists("", "serviceaccounts", namespace, name, PATIENCE)
        if account is not None:
            return account
        problem = f'invalid resource name "{name}": [{", ".join(found)}]' if (found := path_segment(name)) else ""
        detail = f"error looking up service account {namespace}/{name}: "
        detail += problem or f'serviceaccount "{name}" not found'
        raise refuse(attributes, detail)


def mount_token(spec: dict[str, Any]) -> None:
    """Give every container that has nothing at the usual place the volume with token, CA and namespace."""
    volumes = [volume["name"] for volume in spec.get("volumes") or ()]
    existing = next((name for name in volumes if name.startswith(f"{VOLUME}-")), "")
    name = existing or f"{VOLUME}-{random_suffix()}"
    needed = False
    for group in ("initContainers", "containers"):
        for container in spec.get(group) or ():
            mounts = container.get("volumeMounts") or []
            if all(mount.get("mountPath") != MOUNT_PATH for mount in mounts):
                container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
                needed = True
    if needed and not existing:
        spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": _token_volume()}]


def _token_volume() -> dict[str, Any]:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    certificate = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": certificate},
            {"downwardAPI": {"items": [namespace]}},
        ],
        "defaultMode": 420,
    }


def _is_mirror(pod: Object) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def _automounts(account: Object, spec: Object) -> bool:
    """The pod's wish, then the account's; yes if neither has one."""
    for holder in (spec, account):
        if holder.get("automountServiceAccountToken") is not None:
            return bool(holder["automountServiceAccountToken"])
    return True


def _check_mirror(attributes: Attributes, pod: Object) -> None:
    if pod["spec"].get("serviceAccountName"):
        raise refuse(attributes, "a mirror pod may not reference service accounts")
    if any(True for _ in references.secrets(pod)):
        raise refuse(attributes, "a mirror pod may not reference secrets")
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                raise refuse(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


def _disallowed(account: Object, spec: Object, groups: tuple[str, ...]) -> str:
    """What keeps a pod from an account that names its mountable secrets; "" if nothing does."""
    allowed = {reference.get("name") for reference in account.get("secrets") or ()}
    who = f"is not allowed because service account {account['metadata']['name']} does not reference that"
    if "containers" in groups:
        for volume in spec.get("volumes") or ():
            secret = (volume.get("secret") or {}).get("secretName")
            if secret is not None and secret not in allowed:
                return f'volume with secret.secretName="{secret}" {who} secret'
    for group in groups:
        for container in spec.get(group) or ():
            problem = _container_secret(container, allowed)
            if problem:
                return f"{_LABELS[group]} {container['name']} with {problem} {who} secret"
    pullable = {reference.get("name") for reference in account.get("imagePullSecrets") or ()}
    for index, reference in enumerate((spec.get("imagePullSecrets") or ()) if "containers" in groups else ()):
        if reference.get("name") not in pullable:
            return f'imagePullSecrets[{index}].name="{reference.get("name")}" {who} imagePullSecret'
    return ""


_LABELS = {"initContainers": "init container", "containers": "container", "ephemeralContainers": "ephemeral container"}


def _container_secret(container: Object, allowed: set[Any]) -> str:
    for variable in container.get("env") or ():
        secret = ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
        if secret is not None and secret not in allowed:
            return f'envVar {variable["name"]} referencing secret.secretName="{secret}"'
    for source in container.get("envFrom") or ():
        secret = (source.get("secretRef") or {}).get("name")
        if secret is not None and secret not in allowed:
            return f'envFrom referencing secret.secretName="{secret}"'
    return ""
