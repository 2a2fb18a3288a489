"""Security contexts of pods and containers, and what depends on the pod's operating system."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain
from tiphys.api.validation.paths import local_descending

Struct = Mapping[str, Any]

_MAX_ID = 2**31 - 1
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_is_sysctl = re.compile(_SYSCTL).fullmatch
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_WINDOWS_POD = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
]
_WINDOWS_SPEC = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_WINDOWS_CONTAINER = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
]
_NET_SYSCTLS = ("net.", "net/")
_IPC_SYSCTLS = re.compile(r"(kernel[./](sem|shm|msg)|fs[./]mqueue[./])")


def containers_with_path(spec: Struct, path: str) -> Iterator[tuple[Struct, str]]:
    """Every container of a pod, init containers first, with its path."""
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(name) or ()):
            yield container, f"{path}.{name}[{i}]"


def _ids(errors: Errors, path: str, context: Struct, *names: str) -> None:
    for name in names:
        if (value := context.get(name)) is not None:
            errors.within(f"{path}.{name}", value, 0, _MAX_ID)


def pod_security_context(errors: Errors, path: str, context: Struct, spec: Struct) -> None:
    _ids(errors, path, context, "fsGroup", "runAsUser", "runAsGroup")
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        errors.within(f"{path}.supplementalGroups[{i}]", group, 0, _MAX_ID)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.invalid(f"{path}.shareProcessNamespace", True, detail)
    if sysctls := context.get("sysctls"):
        _sysctls(errors, f"{path}.sysctls", sysctls, spec)
    errors.one_of(f"{path}.fsGroupChangePolicy", context.get("fsGroupChangePolicy"), ("Always", "OnRootMismatch"))
    _seccomp(errors, f"{path}.seccompProfile", context.get("seccompProfile"))
    _windows_options(errors, f"{path}.windowsOptions", context.get("windowsOptions"))
    _app_armor(errors, f"{path}.appArmorProfile", context.get("appArmorProfile"))
    policy = context.get("supplementalGroupsPolicy")
    errors.one_of(f"{path}.supplementalGroupsPolicy", policy, ("Merge", "Strict"))
    errors.one_of(f"{path}.seLinuxChangePolicy", context.get("seLinuxChangePolicy"), ("Recursive",))


def security_context(errors: Errors, path: str, context: Struct | None, *, host_users: bool) -> None:
    if not context:
        return
    _ids(errors, path, context, "runAsUser", "runAsGroup")
    if (proc := context.get("procMount")) is not None:
        errors.one_of(f"{path}.procMount", proc, ("Default", "Unmasked"))
        if host_users and proc == "Unmasked":
            errors.invalid(f"{path}.procMount", proc, "`hostUsers` must be false to use `Unmasked`")
    _seccomp(errors, f"{path}.seccompProfile", context.get("seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.invalid(path, dict(context), detail)
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.invalid(path, dict(context), detail)
    _windows_options(errors, f"{path}.windowsOptions", context.get("windowsOptions"))
    _app_armor(errors, f"{path}.appArmorProfile", context.get("appArmorProfile"))


def _sysctls(errors: Errors, path: str, sysctls: list[Struct], spec: Struct) -> None:
    seen = set()
    for i, sysctl in enumerate(sysctls):
        where, name = f"{path}[{i}].name", sysctl.get("name", "")
        if not name:
            errors.required(where)
        elif len(name) > 253 or not _is_sysctl(name):
            errors.invalid(where, name, f"must have at most 253 characters and match regex ^{_SYSCTL}$")
        elif name in seen:
            errors.duplicate(where, name)
        if spec.get("hostNetwork") and name.startswith(_NET_SYSCTLS):
            errors.invalid(where, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and _IPC_SYSCTLS.match(name):
            errors.invalid(where, name, "may not be specified when 'hostIPC' is true")
        seen.add(name)


def _seccomp(errors: Errors, path: str, profile: Struct | None) -> None:
    if profile is None:
        return
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    errors.enum(f"{path}.type", kind, _PROFILES, "type is required when seccompProfile is set")
    if kind == "Localhost":
        if local is None:
            errors.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            local_descending(errors, f"{path}.localhostProfile", local)
    elif local is not None:
        value = {"Type": kind, "LocalhostProfile": local}
        errors.invalid(f"{path}.localhostProfile", value, "can only be set when seccomp type is Localhost")


def _app_armor(errors: Errors, path: str, profile: Struct | None) -> None:
    if profile is None:
        return
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    where, missing = f"{path}.localhostProfile", "must be set when AppArmor type is Localhost"
    errors.enum(f"{path}.type", kind, _PROFILES, "type is required when appArmorProfile is set")
    if kind != "Localhost":
        if kind in _PROFILES and local is not None:
            errors.invalid(where, local, "can only be set when AppArmor type is Localhost")
    elif local is None:
        errors.required(where, missing)
    else:
        if local.strip() != local:
            errors.invalid(where, local, "must not be padded with whitespace")
        elif not local:
            errors.required(where, missing)
        if len(local) > 4095:
            errors.too_long(where, 4095)


def _windows_options(errors: Errors, path: str, options: Struct | None) -> None:
    if not options:
        return
    if (name := options.get("gmsaCredentialSpecName")) is not None:
        errors.each(f"{path}.gmsaCredentialSpecName", name, dns_subdomain(name))
    where, credentials = f"{path}.gmsaCredentialSpec", options.get("gmsaCredentialSpec")
    if credentials == "":
        errors.invalid(where, "", "gmsaCredentialSpec cannot be an empty string")
    elif credentials is not None and len(credentials) > 64 * 1024:
        errors.invalid(where, credentials, "gmsaCredentialSpec size must be under 64 KiB")
    if (user := options.get("runAsUserName")) is not None:
        errors.each(f"{path}.runAsUserName", user, _windows_user(user))


def _windows_user(name: str) -> Iterator[str]:
    if not name:
        yield "runAsUserName cannot be an empty string"
    elif re.search(r"[\x00-\x1f\x7f]", name):
        yield "runAsUserName cannot contain control characters"
    elif name.count("\\") > 1:
        yield "runAsUserName cannot contain more than one backslash"
    else:
        domain, slash, user = name.rpartition("\\")
        if slash:
            yield from _windows_domain(domain)
        yield from _windows_user_part(user)


def _windows_domain(domain: str) -> Iterator[str]:
    if len(domain) >= 256:
        yield "runAsUserName's Domain length must be under 256 characters"
    label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    netbios = r'[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}'
    if not re.fullmatch(netbios, domain) and not re.fullmatch(rf"{label}(?:\.{label})*", domain):
        yield "runAsUserName's Domain doesn't match the NetBios nor the DNS format"


def _windows_user_part(user: str) -> Iterator[str]:
    if not user:
        yield "runAsUserName's User cannot be empty"
    elif len(user) > 104:
        yield "runAsUserName's User length must not be longer than 104 characters"
    if re.fullmatch(r"[\. ]+", user):
        yield "runAsUserName's User cannot contain only periods or spaces"
    if re.search(r'["/\\:;|=,\+\*\?<>@\[\]]', user):
        yield "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"


def _host_process(context: Struct | None) -> bool | None:
    return ((context or {}).get("windowsOptions") or {}).get("hostProcess")


def windows_host_process(errors: Errors, path: str, spec: Struct) -> None:
    """Either all containers are Windows HostProcess containers or none is."""
    of_pod = _host_process(spec.get("securityContext"))
    flags = []
    for container, where in containers_with_path(spec, path):
        own = _host_process(container.get("securityContext"))
        if of_pod is not None and own is not None and of_pod != own:
            detail = f"pod hostProcess value must be identical if both are specified, was {str(of_pod).lower()}"
            errors.invalid(f"{where}.securityContext.windowsOptions.hostProcess", own, detail)
        flags.append(bool(of_pod if own is None else own))
    if not any(flags):
        return
    if not all(flags):
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.invalid(path, "", detail)
    if not spec.get("hostNetwork"):
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.invalid(f"{path}.hostNetwork", False, detail)


def operating_system(errors: Errors, path: str, spec: Struct) -> None:
    """Fields that the pod's operating system does not have."""
    system = spec.get("os")
    if system is None:
        return
    name = system.get("name", "")
    if not name:
        errors.required(f"{path}.os.name")
    elif name not in ("linux", "windows"):
        errors.unsupported(f"{path}.os", name, ("linux", "windows"))
    elif name == "linux":
        _linux(errors, path, spec)
    else:
        _windows(errors, path, spec)


def _linux(errors: Errors, path: str, spec: Struct) -> None:
    contexts = [(spec, path), *containers_with_path(spec, path)]
    for holder, where in contexts:
        if (holder.get("securityContext") or {}).get("windowsOptions") is not None:
            detail = "windows options cannot be set for a linux pod"
            errors.forbidden(f"{where}.securityContext.windowsOptions", detail)


def _windows(errors: Errors, path: str, spec: Struct) -> None:
    detail = "cannot be set for a windows pod"
    for name in _WINDOWS_SPEC:
        value = spec.get(name)
        if value or (value is False and name in ("hostUsers", "shareProcessNamespace")):
            errors.forbidden(f"{path}.{name}", detail)
    context = {k: v for k, v in (spec.get("securityContext") or {}).items() if v != [] or k != "sysctls"}
    errors.forbid_fields(f"{path}.securityContext", context, _WINDOWS_POD, detail)
    for container, where in containers_with_path(spec, path):
        own = container.get("securityContext") or {}
        errors.forbid_fields(f"{where}.securityContext", own, _WINDOWS_CONTAINER, detail)


def host_users(errors: Errors, path: str, spec: Struct) -> None:
    """A pod in a user namespace of its own cannot share the host's process or IPC namespace."""
    if spec.get("hostUsers") is not False:
        return
    detail = "when `hostUsers` is false"
    for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(field):
            errors.forbidden(f"{path}.{shown}", detail)
    for container, where in containers_with_path(spec, path):
        if container.get("volumeDevices"):
            errors.forbidden(f"{where}.volumeDevices", detail)
