"""Environment variables of containers and where their values come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.fields import (
    ENV_FIELDS,
    field_selector,
    file_key_selector,
    key_selector,
    resource_selector,
)
from tiphys.api.validation.names import as_prefix, dns_subdomain, relaxed_env_name

Struct = Mapping[str, Any]


def env(errors: Errors, path: str, variables: Sequence[Struct]) -> None:
    for i, variable in enumerate(variables):
        name = variable.get("name", "")
        if not name:
            errors.required(f"{path}[{i}].name")
        elif found := relaxed_env_name(name):
            errors.each(f"{path}[{i}].name", name, found)
        if (source := variable.get("valueFrom")) is not None:
            _value_from(errors, f"{path}[{i}].valueFrom", source, variable.get("value", ""))


def _value_from(errors: Errors, path: str, source: Struct, value: str) -> None:
    count = 0
    if (field := source.get("fieldRef")) is not None:
        count += 1
        field_selector(errors, f"{path}.fieldRef", field, ENV_FIELDS)
    if (resource := source.get("resourceFieldRef")) is not None:
        count += 1
        resource_selector(errors, f"{path}.resourceFieldRef", resource, volume=False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if (key := source.get(name)) is not None:
            count += 1
            key_selector(errors, f"{path}.{name}", key)
    if (file := source.get("fileKeyRef")) is not None:
        count += 1
        file_key_selector(errors, f"{path}.fileKeyRef", file)
    if not count:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.invalid(path, "", detail)
    elif value:
        errors.invalid(path, "", "may not be specified when `value` is not empty")
    elif count > 1:
        errors.invalid(path, "", "may not have more than one field specified at a time")


def env_from(errors: Errors, path: str, sources: Sequence[Struct]) -> None:
    for i, source in enumerate(sources):
        where = f"{path}[{i}]"
        if prefix := source.get("prefix"):
            errors.each(f"{where}.prefix", prefix, relaxed_env_name(prefix))
        count = 0
        for name in ("configMapRef", "secretRef"):
            if (reference := source.get(name)) is None:
                continue
            count += 1
            if errors.non_empty(f"{where}.{name}.name", owner := reference.get("name", "")):
                errors.each(f"{where}.{name}.name", owner, dns_subdomain(as_prefix(owner)))
        if not count:
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif count > 1:
            errors.invalid(path, "", "may not have more than one field specified at a time")


def file_key_volumes(errors: Errors, path: str, container: Struct, volumes: Mapping[str, Struct]) -> None:
    """Files with variables live in emptyDir volumes of the pod; `path` is the container's."""
    for i, variable in enumerate(container.get("env") or ()):
        reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
        if reference is None:
            continue
        where, name = f"{path}.env[{i}].valueFrom.fileKeyRef.volumeName", reference.get("volumeName", "")
        if name not in volumes:
            errors.not_found(where, name)
        elif volumes[name].get("emptyDir") is None:
            errors.invalid(where, name, "referenced volume must be of type emptyDir")
