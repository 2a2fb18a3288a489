"""A PodSpec, and the template that carries one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.validation import security
from tiphys.api.validation.addresses import legacy_ip
from tiphys.api.validation.containers import PodScope, containers, ephemeral_containers, init_containers
from tiphys.api.validation.environment import file_key_volumes
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import labels
from tiphys.api.validation.metadata import check_annotations
from tiphys.api.validation.names import dns_label, dns_subdomain, dns_subdomain_underscore, qualified_name
from tiphys.api.validation.pod_annotations import pod_annotations, profiles_match
from tiphys.api.validation.pod_resources import pod_resources
from tiphys.api.validation.quantities import resource_requirements
from tiphys.api.validation.scheduling import affinity, tolerations, topology_spread
from tiphys.api.validation.volumes import volumes

Struct = Mapping[str, Any]

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
MAX_INT32 = 2**31 - 1


def pod_spec(errors: Errors, path: str, spec: Struct, meta: Struct | None = None) -> None:
    """`meta` is that of the pod; None for the spec of a template."""
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errors.required(f"{path}.terminationGracePeriodSeconds")
    is_pod, name = meta is not None, (meta or {}).get("name", "")
    known = volumes(errors, f"{path}.volumes", spec.get("volumes") or (), name, is_pod=is_pod)
    claims = spec.get("resourceClaims") or ()
    scope = PodScope(
        volumes=known,
        claims=frozenset(claim["name"] for claim in claims if claim.get("name")),
        restart_policy=spec.get("restartPolicy", ""),
        grace_seconds=grace,
        host_users=spec.get("hostUsers") is not False,
        system=(spec.get("os") or {}).get("name", ""),
    )
    if claims:
        _resource_claims(errors, f"{path}.resourceClaims", claims, meta)
    listed = spec.get("containers") or ()
    containers(errors, f"{path}.containers", listed, scope)
    if init := spec.get("initContainers"):
        init_containers(errors, f"{path}.initContainers", init, listed, scope)
    if spec.get("ephemeralContainers"):
        ephemeral_containers(errors, f"{path}.ephemeralContainers", spec, scope)
    if spec.get("resources") is not None:
        pod_resources(errors, f"{path}.resources", spec, scope.claims)
    if spec.get("hostNetwork"):
        _host_network(errors, path, listed, is_pod=is_pod)
    errors.enum(f"{path}.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES)
    errors.enum(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    _placement(errors, path, spec)
    _names(errors, path, spec)
    _system(errors, path, spec)
    for container, where in security.containers_with_path(spec, path):
        if container.get("env"):
            file_key_volumes(errors, where, container, {v.get("name", ""): v for v in spec.get("volumes") or ()})


def _placement(errors: Errors, path: str, spec: Struct) -> None:
    labels(errors, f"{path}.nodeSelector", spec.get("nodeSelector"))
    if context := spec.get("securityContext"):
        security.pod_security_context(errors, f"{path}.securityContext", context, spec)
    affinity(errors, f"{path}.affinity", spec.get("affinity"))
    _dns_config(errors, f"{path}.dnsConfig", spec)
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        errors.each(f"{path}.readinessGates[{i}].conditionType", kind, qualified_name(kind))
    if gates := spec.get("schedulingGates"):
        _scheduling_gates(errors, f"{path}.schedulingGates", gates)
    if constraints := spec.get("topologySpreadConstraints"):
        topology_spread(errors, f"{path}.topologySpreadConstraints", constraints)
    security.windows_host_process(errors, path, spec)
    security.host_users(errors, path, spec)


def _scheduling_gates(errors: Errors, path: str, gates: Sequence[Struct]) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name", "")
        errors.each(f"{path}[{i}]", name, qualified_name(name))
        if name in seen:
            errors.duplicate(f"{path}[{i}]", name)
        seen.add(name)


_NAMES = (
    ("serviceAccountName", dns_subdomain),
    ("nodeName", dns_subdomain),
    ("hostname", dns_label),
    ("subdomain", dns_label),
    ("priorityClassName", dns_subdomain),
)


def _names(errors: Errors, path: str, spec: Struct) -> None:
    if spec.get("hostnameOverride") is not None:
        _hostname_override(errors, path, spec)
    for name, check in _NAMES:
        if (value := spec.get(name)) and (found := check(value)):
            errors.each(f"{path}.{name}", value, found)
    if (runtime := spec.get("runtimeClassName")) is not None:
        errors.each(f"{path}.runtimeClassName", runtime, dns_subdomain(runtime))
    if (deadline := spec.get("activeDeadlineSeconds")) is not None:
        errors.within(f"{path}.activeDeadlineSeconds", deadline, 1, MAX_INT32)
    if listed := spec.get("tolerations"):
        tolerations(errors, f"{path}.tolerations", listed)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        legacy_ip(errors, f"{path}.hostAliases[{i}].ip", alias.get("ip", ""))
        for j, host in enumerate(alias.get("hostnames") or ()):
            errors.each(f"{path}.hostAliases[{i}].hostnames[{j}]", host, dns_subdomain(host))


def _system(errors: Errors, path: str, spec: Struct) -> None:
    if (policy := spec.get("preemptionPolicy")) is not None:
        errors.enum(f"{path}.preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
    if overhead := spec.get("overhead"):
        resource_requirements(errors, f"{path}.overhead", {"limits": overhead})
    security.operating_system(errors, path, spec)


def _hostname_override(errors: Errors, path: str, spec: Struct) -> None:
    where, value = f"{path}.hostnameOverride", spec["hostnameOverride"]
    if spec.get("setHostnameAsFQDN"):
        errors.forbidden(where, "may not be specified when setHostnameAsFQDN is true")
    if spec.get("hostNetwork"):
        errors.forbidden(where, "may not be specified when hostNetwork is true")
    if len(value) > 64:
        errors.too_long(where, 64)
    errors.each(where, value, dns_subdomain(value))


def _dns_config(errors: Errors, path: str, spec: Struct) -> None:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not config.get("nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.required(f"{path}.nameservers", detail)
            return
    if not config:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        errors.invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers")
    for i, server in enumerate(servers):
        legacy_ip(errors, f"{path}.nameservers[{i}]", server)
    if len(searches) > 32:
        errors.invalid(f"{path}.searches", searches, "must not have more than 32 search paths")
    if len(" ".join(searches)) > 2048:
        detail = "must not have more than 2048 characters (including spaces) in the search list"
        errors.invalid(f"{path}.searches", searches, detail)
    for i, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            errors.each(f"{path}.searches[{i}]", name, dns_subdomain_underscore(name))
    for i, option in enumerate(config.get("options") or ()):
        errors.non_empty(f"{path}.options[{i}]", option.get("name"), "must not be empty")


def _host_network(errors: Errors, path: str, listed: Sequence[Struct], *, is_pod: bool) -> None:
    for i, container in enumerate(listed):
        for j, port in enumerate(container.get("ports") or ()):
            host, inner = port.get("hostPort") or 0, port.get("containerPort") or 0
            if (is_pod or host) and host != inner:
                detail = "must match `containerPort` when `hostNetwork` is true"
                errors.invalid(f"{path}.containers[{i}].ports[{j}].hostPort", host, detail)


def _resource_claims(errors: Errors, path: str, claims: Sequence[Struct], meta: Struct | None) -> None:
    if "kubernetes.io/config.mirror" in ((meta or {}).get("annotations") or {}):
        errors.forbidden("", "static pods do not support resource claims")
        return
    names: set[str] = set()
    for i, claim in enumerate(claims):
        where, name = f"{path}[{i}]", claim.get("name", "")
        if not name:
            errors.required(f"{where}.name")
        elif name in names:
            errors.duplicate(f"{where}.name", name)
        else:
            errors.each(f"{where}.name", name, dns_label(name))
        names.add(name)
        _claim_source(errors, where, claim)


def _claim_source(errors: Errors, path: str, claim: Struct) -> None:
    own, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
    shown = {"Name": claim.get("name", ""), "ResourceClaimName": own, "ResourceClaimTemplateName": template}
    if own is not None and template is not None:
        detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
        errors.invalid(path, shown, detail)
    if own is None and template is None:
        errors.invalid(path, shown, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
    for name, value in (("resourceClaimName", own), ("resourceClaimTemplateName", template)):
        if value is not None:
            errors.each(f"{path}.{name}", value, dns_subdomain(value))


def pod_template(errors: Errors, path: str, template: Struct) -> None:
    """The template of a workload."""
    meta: Struct = template.get("metadata") or {}
    spec: Struct = template.get("spec") or {}
    labels(errors, f"{path}.labels", meta.get("labels"))
    if values := meta.get("annotations"):
        check_annotations(errors, f"{path}.annotations", values)
        pod_annotations(errors, f"{path}.annotations", values, spec)
    pod_spec(errors, f"{path}.spec", spec)
    if meta.get("annotations"):
        profiles_match(errors, f"{path}.spec", meta["annotations"], spec)
    if spec.get("ephemeralContainers"):
        errors.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")
