"""The checks of the level restricted: what hardened pods do without."""

from __future__ import annotations

from tiphys.apiserver.admission.podsecurity import baseline
from tiphys.apiserver.admission.podsecurity.text import (
    Check,
    Struct,
    Violation,
    containers,
    has_own_users,
    is_windows,
    named,
    plural,
    quoted,
    security,
    setters,
)

VOLUMES = frozenset(
    (
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
        "secret",
    )
)  # fmt: skip
OTHER_VOLUMES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd",
    "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
    "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos",
)  # fmt: skip


def not_for_windows(check: Check) -> Check:
    """Pods for Windows cannot set what the check asks for."""
    return lambda metadata, spec: None if is_windows(spec) else check(metadata, spec)


def not_for_own_users(check: Check) -> Check:
    """In a user namespace root is nobody."""
    return lambda metadata, spec: None if has_own_users(spec) else check(metadata, spec)


def privilege_escalation(metadata: Struct, spec: Struct) -> Violation | None:
    bad = [c["name"] for c in containers(spec) if security(c).get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    detail = f"{named('container', bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail)


def capabilities(metadata: Struct, spec: Struct) -> Violation | None:
    found = {c["name"]: security(c).get("capabilities") or {} for c in containers(spec)}
    keeping = [name for name, one in found.items() if "ALL" not in (one.get("drop") or ())]
    added = {name: set(one.get("add") or ()) - {"NET_BIND_SERVICE"} for name, one in found.items()}
    adding = [name for name, names in added.items() if names]
    details = []
    if keeping:
        details.append(f'{named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        names = quoted(sorted(set().union(*added.values())))
        details.append(f"{named('container', adding)} must not include {names} in securityContext.capabilities.add")
    return Violation("unrestricted capabilities", "; ".join(details)) if details else None


def volumes(metadata: Struct, spec: Struct) -> Violation | None:
    bad = [
        volume for volume in spec.get("volumes") or () if not any(volume.get(field) is not None for field in VOLUMES)
    ]
    if not bad:
        return None
    types = sorted({next((field for field in OTHER_VOLUMES if one.get(field) is not None), "unknown") for one in bad})
    verb = "uses" if len(bad) == 1 else "use"
    what = plural("restricted volume type", len(types))
    detail = f"{named('volume', [one['name'] for one in bad])} {verb} {what} {quoted(types)}"
    return Violation("restricted volume types", detail)


def non_root(metadata: Struct, spec: Struct) -> Violation | None:
    own = security(spec).get("runAsNonRoot")
    found = [(c["name"], security(c).get("runAsNonRoot")) for c in containers(spec)]
    who = setters(own is False, [name for name, value in found if value is False])
    if who:
        detail = f"{' and '.join(who)} must not set securityContext.runAsNonRoot=false"
        return Violation("runAsNonRoot != true", detail)
    silent = [name for name, value in found if value is None and not own]
    if not silent:
        return None
    detail = f"pod or {named('container', silent)} must set securityContext.runAsNonRoot=true"
    return Violation("runAsNonRoot != true", detail)


def user(metadata: Struct, spec: Struct) -> Violation | None:
    bad = [c["name"] for c in containers(spec) if security(c).get("runAsUser") == 0]
    who = setters(security(spec).get("runAsUser") == 0, bad)
    return Violation("runAsUser=0", f"{' and '.join(who)} must not set runAsUser=0") if who else None


def seccomp(metadata: Struct, spec: Struct) -> Violation | None:
    violation = baseline.seccomp(metadata, spec)
    if violation is not None or security(spec).get("seccompProfile") is not None:
        return violation
    silent = [c["name"] for c in containers(spec) if security(c).get("seccompProfile") is None]
    if not silent:
        return None
    who = named("container", silent)
    detail = f'pod or {who} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Violation("seccompProfile", detail)
