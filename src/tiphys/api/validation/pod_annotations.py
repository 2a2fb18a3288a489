"""Annotations that mean something to pods, most of them from before there were fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.paths import local_descending
from tiphys.api.validation.scheduling import tolerations
from tiphys.api.validation.security import containers_with_path

Struct = Mapping[str, Any]

MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"


def pod_annotations(errors: Errors, path: str, values: Mapping[str, str], spec: Struct) -> None:
    if MIRROR in values and not spec.get("nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.invalid(f"{path}[{MIRROR}]", values[MIRROR], detail)
    if text := values.get(_TOLERATIONS):
        try:
            tolerations(errors, f"{path}.{_TOLERATIONS}", json.loads(text))
        except ValueError as error:
            errors.invalid(path, _TOLERATIONS, str(error))
    if DELETION_COST in values and not is_deletion_cost(values[DELETION_COST]):
        errors.invalid(f"{path}[{DELETION_COST}]", values[DELETION_COST], "must be a 32bit integer")
    for key in sorted(values):
        if key == _SECCOMP_POD or key.startswith(_SECCOMP):
            _seccomp(errors, f"{path}.{key}", values[key])
        elif key.startswith(APP_ARMOR):
            _app_armor(errors, f"{path}[{key}]", key, values[key], spec)


def is_deletion_cost(text: str) -> bool:
    """A 32-bit number without a plus sign or leading zeros."""
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or (digits != "0" and digits.startswith("0")):
        return False
    return text != "-0" and -(2**31) <= int(text) < 2**31


def _seccomp(errors: Errors, path: str, profile: str) -> None:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return
    if profile.startswith("localhost/"):
        local_descending(errors, path, profile.removeprefix("localhost/"))
    else:
        errors.invalid(path, profile, "must be a valid seccomp profile")


def _app_armor(errors: Errors, path: str, key: str, profile: str, spec: Struct) -> None:
    name = key.removeprefix(APP_ARMOR)
    if all(container.get("name") != name for container, _ in containers_with_path(spec, "spec")):
        errors.invalid(path, name, "container not found")
    if profile not in ("", "runtime/default", "unconfined") and not profile.startswith("localhost/"):
        errors.invalid(path, profile, f"invalid AppArmor profile name: {quote(profile)}")


def profiles_match(errors: Errors, path: str, values: Mapping[str, str], spec: Struct) -> None:
    """A profile that both an annotation and a field set must be the same; `path` is the spec's."""
    context: Struct = spec.get("securityContext") or {}
    of_pod = context.get("appArmorProfile")
    if (profile := context.get("seccompProfile")) is not None and _SECCOMP_POD in values:
        _same(errors, f"{path}.securityContext.seccompProfile", "seccomp", values[_SECCOMP_POD], profile)
    for container, where in containers_with_path(spec, path):
        own: Struct = container.get("securityContext") or {}
        name = container.get("name", "")
        if (profile := own.get("seccompProfile")) is not None and _SECCOMP + name in values:
            _same(errors, f"{where}.securityContext.seccompProfile", "seccomp", values[_SECCOMP + name], profile)
        profile = own.get("appArmorProfile") or of_pod
        if profile is not None and APP_ARMOR + name in values:
            _same(errors, f"{where}.securityContext.appArmorProfile", "apparmor", values[APP_ARMOR + name], profile)


def _same(errors: Errors, path: str, what: str, annotation: str, profile: Struct) -> None:
    kind, default = profile.get("type"), ("runtime/default", "docker/default")
    wrong = (
        (kind == "Unconfined" and annotation != "unconfined")
        or (kind == "RuntimeDefault" and annotation not in (default if what == "seccomp" else default[:1]))
        or (kind == "Localhost" and not annotation.startswith("localhost/"))
    )
    if wrong:
        errors.forbidden(f"{path}.type", f"{what} type in annotation and field must match")
    elif kind == "Localhost" and annotation.removeprefix("localhost/") != profile.get("localhostProfile"):
        errors.forbidden(f"{path}.localhostProfile", f"{what} profile in annotation and field must match")
