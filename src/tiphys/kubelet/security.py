"""securityContext of a pod and a container -> who the process is and what it may do. Pure.

A container's own settings win over the pod's (core/v1 SecurityContext).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.kubelet.env import ConfigError
from tiphys.kubelet.podspec import Object, full_name, init_containers, main_containers
from tiphys.runtime.types import Security

_MAX_ID = 2**31 - 1
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def effective(pod: Object, container: Object) -> dict[str, Any]:
    """The settings that hold for a container: the pod's, overlaid with its own."""
    shared = {key: value for key, value in (pod["spec"].get("securityContext") or {}).items() if value is not None}
    own = {key: value for key, value in (container.get("securityContext") or {}).items() if value is not None}
    return shared | own


def user_of(pod: Object, container: Object, image_user: str) -> str:
    """Who runs: "UID", "UID:GID", a name, or "" where the image names none. Raises ConfigError for a forbidden root."""
    context = effective(pod, container)
    if context.get("runAsNonRoot"):
        _verify_non_root(pod, container, context, image_user)
    uid, gid = context.get("runAsUser"), context.get("runAsGroup")
    if uid is None and gid is None:
        # As the CRI has it: an image tells its user, never its group, which is that of /etc/passwd.
        return (image_user.partition(":")[0] or "0") if image_user else ""
    if uid is not None:
        return f"{uid}:{gid}" if gid is not None else str(uid)
    return f"{image_user.partition(':')[0] or '0'}:{gid}"


def _verify_non_root(pod: Object, container: Object, context: Mapping[str, Any], image_user: str) -> None:
    where = f'(pod: "{full_name(pod)}", container: {container["name"]})'
    if (uid := context.get("runAsUser")) is not None:
        if int(uid) == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    name = image_user.partition(":")[0]
    if name and not name.isdigit():
        why = f"image has non-numeric user ({name}), cannot verify user is non-root"
        raise ConfigError(f"container has runAsNonRoot and {why} {where}")
    number = int(name or 0)
    if number == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if number > _MAX_ID:
        why = f"(Must be 1-({_MAX_ID})): must be between 0 and {_MAX_ID}, inclusive"
        raise ConfigError(f"container has runAsNonRoot and image has an invalid user id ({number}). {why} {where}")


def may_be_privileged(pod: Object) -> bool:
    """Whether a container that the pod was made with is privileged."""
    containers = (*init_containers(pod), *main_containers(pod))
    return any((container.get("securityContext") or {}).get("privileged") for container in containers)


def supplemental_groups(pod: Object) -> tuple[int, ...]:
    """Of every process: the pod's supplementalGroups and its fsGroup."""
    context = pod["spec"].get("securityContext") or {}
    groups = {int(group) for group in context.get("supplementalGroups") or ()}
    if context.get("fsGroup") is not None:
        groups.add(int(context["fsGroup"]))
    return tuple(sorted(groups))


def security_of(pod: Object, container: Object, seccomp_root: str, seccomp_default: bool = True) -> Security:
    """The confinement. `seccomp_root` is where Localhost profiles are; `seccomp_default`: whether who asks for no
    profile gets the runtime's."""
    context = effective(pod, container)
    capabilities = context.get("capabilities") or {}
    dropped = _names(capabilities, "drop")
    privileged = bool(context.get("privileged"))
    unmasked = privileged or context.get("procMount") == "Unmasked"
    return Security(
        privileged=privileged,
        add_capabilities=tuple(name for name in _names(capabilities, "add") if name == "ALL" or name not in dropped),
        drop_capabilities=dropped,
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        seccomp=_seccomp(context, privileged, seccomp_root, seccomp_default),
        apparmor=_apparmor(apparmor_profile(pod, container)),
        readonly_rootfs=bool(context.get("readOnlyRootFilesystem")),
        masked_paths=() if unmasked else None,
        readonly_paths=() if unmasked else None,
    )


def _names(capabilities: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """In capitals and without CAP_. What is both added and dropped is dropped, as containerd has it."""
    return tuple(str(name).upper().removeprefix("CAP_") for name in capabilities.get(field) or ())


def _seccomp(context: Mapping[str, Any], privileged: bool, root: str, default: bool) -> str:
    profile = context.get("seccompProfile") or {}
    kind = profile.get("type", "RuntimeDefault" if default else "Unconfined")
    if privileged or kind == "Unconfined":
        return "unconfined"
    if kind == "RuntimeDefault":
        return "default"
    if not profile.get("localhostProfile"):
        raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
    return f"{root}/{profile['localhostProfile']}"


def apparmor_profile(pod: Object, container: Object) -> dict[str, Any]:
    """The container's own profile, what an annotation says of it (static pods have only that), or the pod's."""
    if own := (container.get("securityContext") or {}).get("appArmorProfile"):
        return dict(own)
    said = (pod["metadata"].get("annotations") or {}).get(APPARMOR_ANNOTATION + container["name"])
    if said in ("runtime/default", "unconfined"):
        return {"type": "RuntimeDefault" if said == "runtime/default" else "Unconfined"}
    if said is not None and said.startswith("localhost/"):
        return {"type": "Localhost", "localhostProfile": said.removeprefix("localhost/")}
    return dict((pod["spec"].get("securityContext") or {}).get("appArmorProfile") or {})


def _apparmor(profile: Mapping[str, Any]) -> str:
    kinds = {"RuntimeDefault": "default", "Unconfined": "unconfined"}
    if profile.get("type") == "Localhost":
        return str(profile["localhostProfile"])
    return kinds.get(str(profile.get("type")), "")


def strict_groups(pod: Object) -> bool:
    """Whether groups that the image gives its user do not count (KEP-3619)."""
    context = pod["spec"].get("securityContext") or {}
    return bool(context.get("supplementalGroupsPolicy") == "Strict")
