"""Defaults of a PodSpec, alone or in a template (API reference, Pod v1)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from tiphys.api.kinds.amounts import round_requirements, round_up
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import child, fill_empty, setdefaults

_VOLUME_MODE = 420
_KEYED = ("secret", "configMap", "downwardAPI", "projected")
_AZURE = {"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"}
_DISABLED = ("schedulingGroup",)
_DISABLED_SOURCES = ("clusterTrustBundle", "podCertificate")
"""Fields of features that are off: dropped, as upstream does."""


_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_reference = re.compile(
    rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::(?P<tag>\w[\w.-]{{0,127}}))?(?P<digest>@[A-Za-z][\w+.-]*:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
).fullmatch


_NAME_LIMIT = 255


@lru_cache(1024)
def latest(image: str) -> bool:
    """Whether a reference names the tag 'latest', or nothing (then it means 'latest')."""
    match = _reference(image)
    if match is None or len(image) - len(match["tag"] or "") - len(match["digest"] or "") > _NAME_LIMIT:
        return False
    if re.fullmatch("[a-f0-9]{64}", image):
        return False
    return match["tag"] == "latest" or (match["tag"] is None and match["digest"] is None)


def pull_policy(image: str) -> str:
    return "Always" if latest(image) else "IfNotPresent"


def default_pod_spec(spec: MutableObject) -> None:
    """Defaults that pods and templates share."""
    for volume in spec.get("volumes") or ():
        _volume(volume)
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(name) or ():
            _container(container)
    fill_empty(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    setdefaults(spec, terminationGracePeriodSeconds=30, securityContext={})
    _service_account(spec)
    round_up(spec, "overhead")
    round_requirements(spec)
    for name in _DISABLED:
        spec.pop(name, None)


def _service_account(spec: MutableObject) -> None:
    """serviceAccount is the old name of serviceAccountName; both always say the same."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def host_ports(spec: MutableObject) -> None:
    """On the host's network a container's ports are the host's."""
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or ():
            for port in container.get("ports") or ():
                if port.get("containerPort"):
                    fill_empty(port, hostPort=port["containerPort"])


def _container(container: MutableObject) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if container.get("resources") is None:
        container["resources"] = {}
    round_requirements(container)
    for port in container.get("ports") or ():
        fill_empty(port, protocol="TCP")
    for variable in container.get("env") or ():
        if source := variable.get("valueFrom"):
            _value_from(source)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(name)) is not None:
            _probe(probe)
    if hooks := container.get("lifecycle"):
        if hooks.pop("stopSignal", None) is not None and all(hook is None for hook in hooks.values()):
            del container["lifecycle"]
        for name in ("postStart", "preStop"):
            if action := (hooks.get(name) or {}).get("httpGet"):
                fill_empty(action, path="/", scheme="HTTP")


def _value_from(source: MutableObject) -> None:
    if (field := source.get("fieldRef")) is not None:
        fill_empty(field, apiVersion="v1")
    if (resource := source.get("resourceFieldRef")) is not None:
        fill_empty(resource, divisor="0")
    if (file := source.get("fileKeyRef")) is not None:
        setdefaults(file, optional=False)


def _probe(probe: MutableObject) -> None:
    fill_empty(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if (action := probe.get("httpGet")) is not None:
        fill_empty(action, path="/", scheme="HTTP")
    if (action := probe.get("grpc")) is not None:
        setdefaults(action, service="")


def _downward_items(source: MutableObject) -> None:
    for item in source.get("items") or ():
        _value_from(item)


def _volume(volume: MutableObject) -> None:
    if all(name == "name" or value is None for name, value in volume.items()):
        volume["emptyDir"] = {}
        return
    for name in _KEYED:
        if (source := volume.get(name)) is not None:
            setdefaults(source, defaultMode=_VOLUME_MODE)
    if source := volume.get("downwardAPI"):
        _downward_items(source)
    for part in (volume.get("projected") or {}).get("sources") or ():
        for name in _DISABLED_SOURCES:
            part.pop(name, None)
        if source := part.get("downwardAPI"):
            _downward_items(source)
        if (source := part.get("serviceAccountToken")) is not None:
            setdefaults(source, expirationSeconds=3600)
    if (source := volume.get("image")) is not None:
        fill_empty(source, pullPolicy=pull_policy(source.get("reference", "")))
    if source := volume.get("ephemeral"):
        _claim_template(source)
    default_volume_source(volume)


def _claim_template(source: MutableObject) -> None:
    if (template := source.get("volumeClaimTemplate")) is not None:
        child(template, "metadata")
        default_claim_spec(child(template, "spec"))


def default_claim_spec(spec: MutableObject) -> None:
    setdefaults(spec, volumeMode="Filesystem")
    round_up(child(spec, "resources"), "limits", "requests")


def default_volume_source(holder: MutableObject) -> None:
    """Defaults of sources that pods and PersistentVolumes have in common."""
    if (source := holder.get("hostPath")) is not None:
        setdefaults(source, type="")
    if (source := holder.get("rbd")) is not None:
        fill_empty(source, pool="rbd", user="admin", keyring="/etc/ceph/keyring")
    if (source := holder.get("iscsi")) is not None:
        fill_empty(source, iscsiInterface="default")
    if (source := holder.get("azureDisk")) is not None:
        setdefaults(source, **_AZURE)
    if (source := holder.get("scaleIO")) is not None:
        fill_empty(source, storageMode="ThinProvisioned", fsType="xfs")


def default_template(holder: MutableObject) -> MutableObject:
    """Default the pod template in `holder` and return it."""
    template = child(holder, "template")
    child(template, "metadata")
    default_pod_spec(child(template, "spec"))
    return template


def requests_from_limits(spec: MutableObject) -> None:
    """A pod's container asks for what it is limited to, unless it says what it asks for."""
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or ():
            resources: dict[str, Any] = container.get("resources") or {}
            if limits := resources.get("limits"):
                resources["requests"] = {**(resources.get("requests") or {})}
                for key, value in limits.items():
                    resources["requests"].setdefault(key, value)
