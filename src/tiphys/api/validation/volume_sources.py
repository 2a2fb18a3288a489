"""Sources of volumes that pods and PersistentVolumes have in common: disks, network storage, host paths.

A source is checked by a function of (errors, path, source, owner); `owner` is the name of the volume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_label, dns_subdomain
from tiphys.api.validation.paths import local_descending, no_backsteps

Struct = Mapping[str, Any]
SourceCheck = Callable[[Errors, str, Struct, str], None]

HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_ISCSI_NAMES = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$"),
    "eui": re.compile(r"^eui.[A-Za-z0-9]{16}$"),
    "naa": re.compile(r"^naa.[A-Za-z0-9]{32}$"),
}
_PORTAL_TOO_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is"
    " specified."
)
_MANAGED_DISK = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_DISK = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def needs(*names: str) -> SourceCheck:
    """A source of which only these fields are asked for."""

    def check(errors: Errors, path: str, source: Struct, owner: str) -> None:
        errors.fields(path, source, *names)

    return check


def host_path(errors: Errors, path: str, source: Struct, owner: str) -> None:
    if errors.non_empty(f"{path}.path", source.get("path")):
        no_backsteps(errors, f"{path}.path", source["path"])
        errors.one_of(f"{path}.type", source.get("type"), HOST_PATH_TYPES)


def git_repo(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "repository")
    local_descending(errors, f"{path}.directory", source.get("directory", ""))


def _partition(errors: Errors, path: str, source: Struct) -> None:
    value = source.get("partition") or 0
    if not 0 <= value <= 255:
        errors.invalid(f"{path}.partition", value, "must be between 1 and 255, inclusive")


def gce_disk(errors: Errors, path: str, source: Struct, owner: str) -> None:
    where = path.replace("gcePersistentDisk", "persistentDisk")
    errors.fields(where, source, "pdName")
    _partition(errors, where, source)


def aws_disk(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "volumeID")
    _partition(errors, path, source)


def nfs(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "server", "path")
    value = source.get("path", "")
    if not value.startswith("/"):
        errors.invalid(f"{path}.path", value, "must be an absolute path")


def _iscsi_name(errors: Errors, path: str, name: str, unknown: str) -> None:
    pattern = _ISCSI_NAMES.get(name[:3])
    if pattern is None:
        errors.invalid(path, name, unknown)
    elif not pattern.search(name):
        errors.invalid(path, name, "must be valid format")


def _iscsi(errors: Errors, path: str, source: Struct, unknown: str) -> None:
    if errors.non_empty(f"{path}.iqn", source.get("iqn")):
        _iscsi_name(errors, f"{path}.iqn", source["iqn"], unknown)
    errors.within(f"{path}.lun", source.get("lun") or 0, 0, 255)
    secret = source.get("secretRef")
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and secret is None:
        errors.required(f"{path}.secretRef")


def iscsi(errors: Errors, path: str, source: Struct, owner: str) -> None:
    """iSCSI in a pod; the volume's name is part of the session's."""
    unknown = "must be valid format starting with iqn, eui, or naa"
    errors.fields(path, source, "targetPortal")
    _iscsi(errors, path, source, unknown)
    if (initiator := source.get("initiatorName")) is not None:
        _iscsi_name(errors, f"{path}.initiatorname", initiator, unknown)
        if len(f"{owner}:{source.get('targetPortal', '')}") > 64:
            errors.invalid(f"{path.rpartition('.')[0]}.name", owner, _PORTAL_TOO_LONG)


def iscsi_persistent(errors: Errors, path: str, source: Struct, owner: str) -> None:
    portal, initiator = source.get("targetPortal", ""), source.get("initiatorName")
    errors.fields(path, source, "targetPortal")
    if initiator is not None and len(f"{owner}:{portal}") > 64:
        errors.invalid(f"{path}.targetportal", portal, _PORTAL_TOO_LONG)
    _iscsi(errors, path, source, "must be valid format")
    _secret_name(errors, path, source)
    if initiator is not None:
        _iscsi_name(errors, f"{path}.initiatorname", initiator, "must be valid format")


def _secret_name(errors: Errors, path: str, source: Struct) -> None:
    if (secret := source.get("secretRef")) is not None:
        errors.fields(f"{path}.secretRef", secret, "name")


def _secret_reference(errors: Errors, path: str, source: Struct) -> None:
    if (secret := source.get("secretRef")) is not None:
        errors.fields(f"{path}.secretRef", secret, "name", "namespace")


def cinder(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "volumeID")
    _secret_name(errors, path, source)


def cinder_persistent(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "volumeID")
    _secret_reference(errors, path, source)


def fibre_channel(errors: Errors, path: str, source: Struct, owner: str) -> None:
    targets, wwids, lun = source.get("targetWWNs"), source.get("wwids"), source.get("lun")
    where = f"{path}.targetWWNs"
    if not targets and not wwids:
        errors.required(where, "must specify either targetWWNs or wwids, but not both")
    if targets and wwids:
        errors.invalid(where, targets, "targetWWNs and wwids can not be specified simultaneously")
    if targets and lun is None:
        errors.required(f"{path}.lun", "lun is required if targetWWNs is specified")
    elif targets and lun is not None:
        errors.within(f"{path}.lun", lun, 0, 255)


def quobyte(errors: Errors, path: str, source: Struct, owner: str) -> None:
    registry = source.get("registry", "")
    pairs = "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        errors.required(f"{path}.registry", pairs)
    elif len(source.get("tenant", "")) >= 65:
        errors.required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in registry.split(","):
            if not re.fullmatch(r"([^:\[\]]*|\[[^\[\]]*\]):[^:\[\]]*", pair):
                errors.invalid(f"{path}.registry", registry, pairs)
    errors.fields(path, source, "volume")


def glusterfs_persistent(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "endpoints", "path")
    where, namespace = f"{path}.endpointsNamespace", source.get("endpointsNamespace")
    if namespace == "":
        errors.invalid(where, "", "if the endpointnamespace is set, it must be a valid namespace name")
    elif namespace is not None:
        errors.each(where, namespace, dns_label(namespace))


def flocker(errors: Errors, path: str, source: Struct, owner: str) -> None:
    name, uuid = source.get("datasetName", ""), source.get("datasetUUID", "")
    if not name and not uuid:
        errors.required(path, "one of datasetName and datasetUUID is required")
    if name and uuid:
        errors.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in name:
        errors.invalid(f"{path}.datasetName", name, "must not contain '/'")


def flex(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "driver")
    for key in sorted(source.get("options") or ()):
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            errors.invalid(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


def azure_file_persistent(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "secretName", "shareName")
    if source.get("secretNamespace") == "":
        errors.required(f"{path}.secretNamespace")


def azure_disk(errors: Errors, path: str, source: Struct, owner: str) -> None:
    errors.fields(path, source, "diskName", "diskURI")
    kind, uri = source.get("kind"), source.get("diskURI", "")
    errors.one_of(f"{path}.cachingMode", source.get("cachingMode"), ("None", "ReadOnly", "ReadWrite"))
    errors.one_of(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared"))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        errors.unsupported(f"{path}.diskURI", uri, (_MANAGED_DISK,))
    if kind is not None and kind != "Managed" and not uri.startswith("https://"):
        errors.unsupported(f"{path}.diskURI", uri, (_BLOB_DISK,))


def _storageos(errors: Errors, path: str, source: Struct) -> None:
    if errors.non_empty(f"{path}.volumeName", source.get("volumeName")):
        errors.each(f"{path}.volumeName", source["volumeName"], dns_label(source["volumeName"]))
    if namespace := source.get("volumeNamespace"):
        errors.each(f"{path}.volumeNamespace", namespace, dns_label(namespace))


def storageos(errors: Errors, path: str, source: Struct, owner: str) -> None:
    _storageos(errors, path, source)
    _secret_name(errors, path, source)


def storageos_persistent(errors: Errors, path: str, source: Struct, owner: str) -> None:
    _storageos(errors, path, source)
    _secret_reference(errors, path, source)


def csi_driver_name(errors: Errors, path: str, name: str) -> None:
    if not errors.non_empty(path, name):
        return
    if len(name) > 63:
        errors.too_long(path, 63)
    errors.each(path, name, dns_subdomain(name.lower()))


def csi(errors: Errors, path: str, source: Struct, owner: str) -> None:
    csi_driver_name(errors, f"{path}.driver", source.get("driver", ""))
    if (secret := source.get("nodePublishSecretRef")) is None:
        return
    if errors.non_empty(f"{path}.nodePublishSecretRef.name", secret.get("name")):
        errors.each(f"{path}.name", secret["name"], dns_subdomain(secret["name"]))


def csi_persistent(errors: Errors, path: str, source: Struct, owner: str) -> None:
    csi_driver_name(errors, f"{path}.driver", source.get("driver", ""))
    errors.fields(path, source, "volumeHandle")
    for use in ("controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"):
        if (secret := source.get(f"{use}SecretRef")) is None:
            continue
        for name, check in (("name", dns_subdomain), ("namespace", dns_label)):
            where, value = f"{path}.{use}SecretRef.{name}", secret.get(name, "")
            if errors.non_empty(where, value):
                errors.each(where, value, check(value))
