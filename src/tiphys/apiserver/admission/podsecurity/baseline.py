"""The checks of the level baseline: no known way to more privileges than a container usually has."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.apiserver.admission.podsecurity.text import (
    Check,
    Struct,
    Violation,
    containers,
    has_own_users,
    named,
    plural,
    quoted,
    security,
    setters,
)

APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD, SECCOMP = "seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/"
PROFILES = ("Localhost", "RuntimeDefault")
CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
SELINUX_TYPES = frozenset(("", "container_t", "container_init_t", "container_kvm_t"))
SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
    )
)
SYSCTLS_27 = SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_29 = SYSCTLS_27 | {f"net.ipv4.tcp_{name}" for name in ("keepalive_time", "fin_timeout")}
SYSCTLS_29 |= {"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"}
SYSCTLS_32 = SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def app_armor(metadata: Struct, spec: Struct) -> Violation | None:
    own = _profile(spec, "appArmorProfile")
    bad = [(c["name"], profile) for c in containers(spec) if (profile := _profile(c, "appArmorProfile")) is not None]
    bad = [(name, profile) for name, profile in bad if profile not in PROFILES]
    in_pod = own is not None and own not in PROFILES
    values = sorted({profile for _, profile in bad} | ({str(own)} if in_pod else set()))
    who = setters(in_pod, [name for name, _ in bad])
    annotations = sorted(
        f"{key}={quote(value)}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(APPARMOR) and not _may_annotate(value)
    )
    if annotations:
        values += annotations
        who.append(plural("annotation", len(annotations)))
    if not who:
        return None
    detail = f"{' and '.join(who)} must not set AppArmor profile type to {quoted(values)}"
    return Violation(plural("forbidden AppArmor profile", len(values)), detail)


def _may_annotate(value: str) -> bool:
    return value in ("", "runtime/default") or value.startswith("localhost/")


def _profile(holder: Struct, field: str) -> str | None:
    """The type of a profile; None without one."""
    profile = security(holder).get(field)
    return None if profile is None else str(profile.get("type", ""))


def capabilities(metadata: Struct, spec: Struct) -> Violation | None:
    added = {c["name"]: set((security(c).get("capabilities") or {}).get("add") or ()) for c in containers(spec)}
    bad = [name for name, names in added.items() if names - CAPABILITIES]
    if not bad:
        return None
    forbidden = sorted(set().union(*added.values()) - CAPABILITIES)
    detail = f"{named('container', bad)} must not include {quoted(forbidden)} in securityContext.capabilities.add"
    return Violation("non-default capabilities", detail)


def host_namespaces(metadata: Struct, spec: Struct) -> Violation | None:
    used = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return Violation("host namespaces", ", ".join(used)) if used else None


def host_path_volumes(metadata: Struct, spec: Struct) -> Violation | None:
    bad = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Violation("hostPath volumes", named("volume", bad)) if bad else None


def host_ports(metadata: Struct, spec: Struct) -> Violation | None:
    used = {
        c["name"]: [port["hostPort"] for port in c.get("ports") or () if port.get("hostPort")] for c in containers(spec)
    }
    bad = [name for name, ports in used.items() if ports]
    if not bad:
        return None
    ports = sorted({str(port) for found in used.values() for port in found})
    verb = "uses" if len(bad) == 1 else "use"
    return Violation(
        "hostPort", f"{named('container', bad)} {verb} {plural('hostPort', len(ports))} {', '.join(ports)}"
    )


def host_probes(metadata: Struct, spec: Struct) -> Violation | None:
    used = {c["name"]: list(_hosts(c)) for c in containers(spec)}
    bad = sorted(name for name, hosts in used.items() if hosts)
    if not bad:
        return None
    hosts = sorted({host for found in used.values() for host in found})
    verb = "uses" if len(bad) == 1 else "use"
    what = plural("probe or lifecycle host", len(hosts))
    return Violation("probe or lifecycle host", f"{named('container', bad)} {verb} {what} {quoted(hosts)}")


def _hosts(container: Struct) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    handlers = [container.get(field) for field in ("livenessProbe", "readinessProbe", "startupProbe")]
    for handler in [*handlers, lifecycle.get("postStart"), lifecycle.get("preStop")]:
        for action in ("httpGet", "tcpSocket"):
            host = ((handler or {}).get(action) or {}).get("host")
            if host:
                yield host


def privileged(metadata: Struct, spec: Struct) -> Violation | None:
    bad = [c["name"] for c in containers(spec) if security(c).get("privileged")]
    detail = f"{named('container', bad)} must not set securityContext.privileged=true"
    return Violation("privileged", detail) if bad else None


def proc_mount(metadata: Struct, spec: Struct) -> Violation | None:
    found = {c["name"]: security(c).get("procMount") for c in containers(spec)}
    bad = [name for name, type in found.items() if type not in (None, "Default")]
    if not bad:
        return None
    types = sorted({str(found[name]) for name in bad})
    detail = f"{named('container', bad)} must not set securityContext.procMount to {quoted(types)}"
    return Violation("procMount", detail)


def proc_mount_35(metadata: Struct, spec: Struct) -> Violation | None:
    return None if has_own_users(spec) else proc_mount(metadata, spec)


def selinux(types: Collection[str]) -> Check:
    """Only these types, no user and no role."""

    def check(metadata: Struct, spec: Struct) -> Violation | None:
        def bad(options: Any) -> bool:
            return bool(options.get("type", "") not in types or options.get("user") or options.get("role"))

        own = security(spec).get("seLinuxOptions") or {}
        found = [(c["name"], security(c).get("seLinuxOptions") or {}) for c in containers(spec)]
        who = setters(bad(own), [name for name, options in found if bad(options)])
        if not who:
            return None
        every = [own, *(options for _, options in found)]
        wrong = sorted({kind for options in every if (kind := options.get("type", "")) not in types})
        data = [named("type", wrong)] if wrong else []
        data += [f"{field} may not be set" for field in ("user", "role") if any(one.get(field) for one in every)]
        detail = f"{' and '.join(who)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
        return Violation("seLinuxOptions", detail)

    return check


def seccomp_annotations(metadata: Struct, spec: Struct) -> Violation | None:
    """Before 1.19 profiles were annotations."""
    annotations = metadata.get("annotations") or {}
    keys = [SECCOMP_POD, *(SECCOMP + c["name"] for c in containers(spec))]
    bad = sorted({f"{key}={quote(annotations[key])}" for key in keys if key in annotations and _bad(annotations[key])})
    if not bad:
        return None
    return Violation("seccompProfile", f"forbidden {plural('annotation', len(bad))} {', '.join(bad)}")


def _bad(value: str) -> bool:
    return value not in ("runtime/default", "docker/default") and not value.startswith("localhost/")


def seccomp(metadata: Struct, spec: Struct) -> Violation | None:
    own = _profile(spec, "seccompProfile")
    found = [(c["name"], _profile(c, "seccompProfile")) for c in containers(spec)]
    bad = [(name, type) for name, type in found if type is not None and type not in PROFILES]
    in_pod = own is not None and own not in PROFILES
    who = setters(in_pod, [name for name, _ in bad])
    if not who:
        return None
    types = sorted({str(type) for _, type in bad} | ({str(own)} if in_pod else set()))
    detail = f"{' and '.join(who)} must not set securityContext.seccompProfile.type to {quoted(types)}"
    return Violation("seccompProfile", detail)


def sysctls(allowed: Collection[str]) -> Check:
    """Only these."""

    def check(metadata: Struct, spec: Struct) -> Violation | None:
        names = [one.get("name", "") for one in security(spec).get("sysctls") or ()]
        bad = [name for name in names if name not in allowed]
        return Violation("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def windows_host_process(metadata: Struct, spec: Struct) -> Violation | None:
    def hosts(holder: Struct) -> bool:
        return bool((security(holder).get("windowsOptions") or {}).get("hostProcess"))

    who = setters(hosts(spec), [c["name"] for c in containers(spec) if hosts(c)])
    if not who:
        return None
    detail = f"{' and '.join(who)} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail)
