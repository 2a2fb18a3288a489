"""Containers of a pod: what all have in common, and what differs for init and ephemeral containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api.validation.environment import env, env_from
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.mounts import volume_devices, volume_mounts
from tiphys.api.validation.names import dns_label, port_name
from tiphys.api.validation.probes import lifecycle, probes
from tiphys.api.validation.quantities import resource_requirements
from tiphys.api.validation.security import security_context

Struct = Mapping[str, Any]

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RULES_NEED_POLICY = "must specify restartPolicy when restart rules are used"
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_NOT_IN_EPHEMERAL = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)
_ONLY_SIDECARS = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True, slots=True)
class PodScope:
    """What containers need to know of their pod."""

    volumes: Mapping[str, Struct]
    claims: frozenset[str]
    restart_policy: str
    grace_seconds: int | None
    host_users: bool
    system: str
    """The name of spec.os; '' for none."""


def ports(errors: Errors, path: str, listed: Sequence[Struct]) -> None:
    names: set[str] = set()
    for i, port in enumerate(listed):
        where = f"{path}[{i}]"
        if name := port.get("name"):
            if found := port_name(name):
                errors.each(f"{where}.name", name, found)
            elif name in names:
                errors.duplicate(f"{where}.name", name)
            names.add(name)
        if errors.non_empty(f"{where}.containerPort", number := port.get("containerPort") or 0):
            errors.within(f"{where}.containerPort", number, 1, 65535)
        if host := port.get("hostPort"):
            errors.within(f"{where}.hostPort", host, 1, 65535)
        errors.enum(f"{where}.protocol", port.get("protocol"), PROTOCOLS)


def _common(errors: Errors, path: str, container: Struct, scope: PodScope) -> None:
    if errors.non_empty(f"{path}.name", name := container.get("name", "")):
        errors.each(f"{path}.name", name, dns_label(name))
    errors.non_empty(f"{path}.image", container.get("image"))
    policy = container.get("terminationMessagePolicy")
    errors.enum(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    if listed := container.get("ports"):
        ports(errors, f"{path}.ports", listed)
    if listed := container.get("env"):
        env(errors, f"{path}.env", listed)
    if listed := container.get("envFrom"):
        env_from(errors, f"{path}.envFrom", listed)
    if container.get("volumeMounts"):
        volume_mounts(errors, path, container, scope.volumes)
    if container.get("volumeDevices"):
        volume_devices(errors, path, container, scope.volumes)
    errors.enum(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), PULL_POLICIES)
    if resources := container.get("resources"):
        resource_requirements(errors, f"{path}.resources", resources, scope.claims)
    if policies := container.get("resizePolicy"):
        _resize_policy(errors, f"{path}.resizePolicy", policies, scope.restart_policy)
    if context := container.get("securityContext"):
        security_context(errors, f"{path}.securityContext", context, host_users=scope.host_users)


def _resize_policy(errors: Errors, path: str, policies: Sequence[Struct], pod_policy: str) -> None:
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            errors.duplicate(f"{path}[{i}]", name)
        seen.add(name)
        errors.enum(path, name, ("cpu", "memory"))
        errors.enum(path, restart, ("NotRequired", "RestartContainer"))
        if pod_policy == "Never" and restart != "NotRequired":
            errors.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")


def _restart_rules(errors: Errors, path: str, container: Struct) -> None:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    if policy is not None:
        errors.one_of(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    elif rules:
        errors.required(f"{path}.restartPolicy", _RULES_NEED_POLICY)
    if len(rules) > 20:
        errors.too_many(f"{path}.restartPolicyRules", len(rules), 20)
    for i, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{i}]"
        errors.one_of(f"{where}.action", rule.get("action", ""), ("Restart", "RestartAllContainers"))
        if (codes := rule.get("exitCodes")) is None:
            errors.required(f"{where}.exitCodes", "must be specified")
            continue
        errors.one_of(f"{where}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn"))
        if len(codes.get("values") or ()) > 255:
            errors.too_many(f"{where}.exitCodes.values", len(codes["values"]), 255)


def _host_ports(errors: Errors, path: str, listed: Sequence[Struct]) -> None:
    taken: set[str] = set()
    for i, container in enumerate(listed):
        for j, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in taken:
                errors.duplicate(f"{path}[{i}].ports[{j}].hostPort", key)
            taken.add(key)


def _handlers(errors: Errors, path: str, container: Struct, scope: PodScope) -> None:
    if (hooks := container.get("lifecycle")) is not None:
        lifecycle(errors, f"{path}.lifecycle", hooks, scope.grace_seconds, scope.system)
    probes(errors, path, container, scope.grace_seconds)


def containers(errors: Errors, path: str, listed: Sequence[Struct], scope: PodScope) -> None:
    if not listed:
        errors.required(path)
        return
    names: set[str] = set()
    for i, container in enumerate(listed):
        where = f"{path}[{i}]"
        _common(errors, where, container, scope)
        name = container.get("name", "")
        if name in names:
            errors.duplicate(f"{where}.name", name)
        names.add(name)
        _handlers(errors, where, container, scope)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            _restart_rules(errors, where, container)
    _host_ports(errors, path, listed)


def init_containers(
    errors: Errors, path: str, listed: Sequence[Struct], regular: Sequence[Struct], scope: PodScope
) -> None:
    names = {container.get("name", "") for container in regular}
    for i, container in enumerate(listed):
        where = f"{path}[{i}]"
        _common(errors, where, container, scope)
        if container.get("restartPolicy") is not None:
            _restart_rules(errors, where, container)
        elif container.get("restartPolicyRules"):
            errors.required(f"{where}.restartPolicy", _RULES_NEED_POLICY)
        name = container.get("name", "")
        if name in names:
            errors.duplicate(f"{where}.name", name)
        elif name:
            names.add(name)
        # Upstream names the port by its place among one: always the first container.
        _host_ports(errors, path, (container,))
        if container.get("restartPolicy") == "Always":
            _handlers(errors, where, container, scope)
        else:
            _plain_init(errors, where, container)


def _plain_init(errors: Errors, path: str, container: Struct) -> None:
    for name in _ONLY_SIDECARS:
        if container.get(name) is not None:
            detail = "may not be set for init containers without restartPolicy=Always"
            errors.forbidden(f"{path}.{name}", detail)
    for j, policy in enumerate(container.get("resizePolicy") or ()):
        if policy.get("restartPolicy") == "RestartContainer":
            detail = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            errors.invalid(f"{path}.resizePolicy[{j}].restartPolicy", "RestartContainer", detail)


def ephemeral_containers(errors: Errors, path: str, spec: Struct, scope: PodScope) -> None:
    others = {c.get("name", "") for key in ("containers", "initContainers") for c in spec.get(key) or ()}
    names = set(others)
    for i, container in enumerate(spec.get("ephemeralContainers") or ()):
        where = f"{path}[{i}]"
        _common(errors, where, container, scope)
        image_spaces(errors, where, container)
        name, target = container.get("name", ""), container.get("targetContainerName")
        if name in names:
            errors.duplicate(f"{where}.name", name)
        names.add(name)
        if target and target not in others:
            errors.not_found(f"{where}.targetContainerName", target)
        for field in _NOT_IN_EPHEMERAL:
            if container.get(field) not in (None, {}, []):
                errors.forbidden(f"{where}.{field}", "cannot be set for an Ephemeral Container")
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    errors.forbidden(f"{where}.volumeMounts[{j}].{field}", "cannot be set for an Ephemeral Container")


def image_spaces(errors: Errors, path: str, container: Struct) -> None:
    image = container.get("image", "")
    if image != image.strip():
        errors.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
