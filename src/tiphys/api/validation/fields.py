"""References from a pod to its own fields, to resources of its containers, and to keys of other objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tiphys.api.quantity import canonical
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_name
from tiphys.api.validation.names import config_key, dns_label, dns_subdomain, relaxed_env_name
from tiphys.api.validation.paths import no_backsteps
from tiphys.api.validation.quantities import amount

Struct = Mapping[str, Any]

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_KNOWN_FIELDS = frozenset((*ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"))
_subscripted = re.compile(r"(.+?)\['(.*)'\]").fullmatch
_SIZES = ("1", *(f"1{s}" for s in ("k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))
_DIVISORS = {
    "cpu": (("1m", "1"), "1m and 1", "cpu"),
    "memory": (_SIZES, ", ".join(_SIZES), "memory"),
    "ephemeral-storage": (_SIZES, ", ".join(_SIZES), "local ephemeral storage"),
    "hugepages": (_SIZES, ", ".join(_SIZES), "hugepages"),
}


def field_selector(errors: Errors, path: str, selector: Struct, allowed: tuple[str, ...]) -> None:
    """A fieldRef; `allowed` are the fields without a subscript that may be named here."""
    version, field = selector.get("apiVersion", ""), selector.get("fieldPath", "")
    if not errors.non_empty(f"{path}.apiVersion", version) or not errors.non_empty(f"{path}.fieldPath", field):
        return
    match = _subscripted(field)
    if problem := _unknown_field(version, field, match.group(1) if match else ""):
        errors.invalid(f"{path}.fieldPath", field, f"error converting fieldPath: {problem}")
    elif match:
        key = match.group(2)
        label_name(errors, path, key.lower() if match.group(1) == "metadata.annotations" else key)
    else:
        name = "spec.nodeName" if field == "spec.host" else field
        errors.one_of(f"{path}.fieldPath", name, allowed)


def _unknown_field(version: str, field: str, subscripted: str) -> str:
    if version != "v1":
        return f"unsupported pod version: {version}"
    if subscripted:
        if subscripted in ("metadata.annotations", "metadata.labels"):
            return ""
        return f"field label does not support subscript: {field}"
    if field in _KNOWN_FIELDS or field == "spec.host":
        return ""
    return f"field label not supported: {field}"


def resource_selector(errors: Errors, path: str, selector: Struct, *, volume: bool) -> None:
    """A resourceFieldRef; in a volume it has to name the container."""
    resource = selector.get("resource", "")
    if volume and not selector.get("containerName"):
        errors.required(f"{path}.containerName")
    elif not resource:
        errors.required(f"{path}.resource")
    elif resource not in _RESOURCES and not resource.startswith(("limits.hugepages-", "requests.hugepages-")):
        errors.unsupported(f"{path}.resource", resource, _RESOURCES)
    divisor = selector.get("divisor")
    if divisor is None or amount(divisor) == 0:
        return
    kind = resource.partition(".")[2]
    rule = _DIVISORS.get("hugepages" if kind.startswith("hugepages-") else kind)
    if rule and canonical(str(divisor)) not in rule[0]:
        detail = f"only divisor's values {rule[1]} are supported with the {rule[2]} resource"
        errors.invalid(f"{path}.divisor", resource, detail)


def key_selector(errors: Errors, path: str, selector: Struct) -> None:
    """A key of a ConfigMap or a Secret."""
    name, key = selector.get("name", ""), selector.get("key", "")
    errors.each(f"{path}.name", name, dns_subdomain(name))
    if errors.non_empty(f"{path}.key", key):
        errors.each(f"{path}.key", key, config_key(key))


def file_key_selector(errors: Errors, path: str, selector: Struct) -> None:
    """A variable in a file that an init container writes."""
    key, volume, file = (selector.get(name, "") for name in ("key", "volumeName", "path"))
    if errors.non_empty(f"{path}.key", key):
        errors.each(f"{path}.key", key, relaxed_env_name(key))
    if errors.non_empty(f"{path}.volumeName", volume):
        errors.each(f"{path}.volumeName", volume, dns_label(volume))
    if errors.non_empty(f"{path}.path", file):
        no_backsteps(errors, f"{path}.path", file)
