"""Warnings about pods and pod templates: what is deprecated, what hides something, what cannot work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.api.kinds.deprecations import LABELS, requirement_warnings
from tiphys.api.validation.addresses import ip_warnings
from tiphys.api.validation.pod_annotations import APP_ARMOR
from tiphys.api.validation.quantities import amount
from tiphys.api.validation.security import containers_with_path

Struct = Mapping[str, Any]

_OLD_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_OLD_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_NULL_SELECTOR = "a null labelSelector results in matching no pod"
_BYTES = ("memory", "ephemeral-storage")


def pod_warnings(spec: Struct, meta: Struct, path: str = "") -> list[str]:
    """`path` is where the template is ('spec.template'); '' for a pod itself."""
    root = f"{path}." if path else ""
    return [
        *_scheduling(spec, f"{root}spec"),
        *_annotations(spec, meta, root, is_template=bool(path)),
        *_volumes(spec, f"{root}spec"),
        *_duplicates(spec, f"{root}spec"),
        *_containers(spec, f"{root}spec"),
        *_ports(spec, f"{root}spec"),
        *_rest(spec, f"{root}spec"),
    ]


def _terms(affinity: Struct, path: str) -> Iterator[tuple[Struct, str]]:
    node = affinity.get("nodeAffinity") or {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for i, term in enumerate((node.get(required) or {}).get("nodeSelectorTerms") or ()):
        yield term, f"{path}.nodeAffinity.{required}.nodeSelectorTerms[{i}]"
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    for i, term in enumerate(node.get(preferred) or ()):
        yield term.get("preference") or {}, f"{path}.nodeAffinity.{preferred}[{i}].preference"


def _scheduling(spec: Struct, path: str) -> Iterator[str]:
    for key in sorted(spec.get("nodeSelector") or ()):
        if key in LABELS:
            yield f"{path}.nodeSelector[{key}]: {LABELS[key]}"
    for term, where in _terms(spec.get("affinity") or {}, f"{path}.affinity"):
        yield from requirement_warnings(term.get("matchExpressions"), f"{where}.matchExpressions")
    for i, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        where = f"{path}.topologySpreadConstraints[{i}]"
        if (key := constraint.get("topologyKey")) in LABELS:
            yield f"{where}.topologyKey: {key} is {LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{where}.labelSelector: {_NULL_SELECTOR}"


def _annotations(spec: Struct, meta: Struct, root: str, *, is_template: bool) -> Iterator[str]:
    values = meta.get("annotations") or {}
    if not values:
        return
    context = spec.get("securityContext") or {}
    where = f"{root}metadata.annotations"
    for key, text in _OLD_ANNOTATIONS.items():
        if key in values:
            yield f"{where}[{key}]: {text}"
    seccomp = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    if _SECCOMP in values and not context.get("seccompProfile"):
        yield f"{where}[{_SECCOMP}]: {seccomp}"
    for container, _ in containers_with_path(spec, ""):
        own, name = container.get("securityContext") or {}, container.get("name", "")
        if _SECCOMP_CONTAINER + name in values and not own.get("seccompProfile"):
            yield f"{where}[{_SECCOMP_CONTAINER}{name}]: {seccomp}"
        armor = own.get("appArmorProfile") or context.get("appArmorProfile")
        if is_template and APP_ARMOR + name in values and not armor:
            text = 'deprecated since v1.30; use the "appArmorProfile" field instead'
            yield f"{where}[{APP_ARMOR}{name}]: {text}"


def _volumes(spec: Struct, path: str) -> Iterator[str]:
    for i, volume in enumerate(spec.get("volumes") or ()):
        for name, text in _OLD_VOLUMES.items():
            if volume.get(name) is not None:
                shown = "storageOS" if name == "storageos" else name
                yield f"{path}.volumes[{i}].{shown}: {text}"
    for volume in spec.get("volumes") or ():
        yield from _overlaps(volume)


def _overlaps(volume: Struct) -> Iterator[str]:
    name = quote(volume.get("name", ""))
    for kind, shown, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if source := volume.get(kind):
            paths = [(item.get("path", ""), "") for item in source.get("items") or ()]
            for text in _collisions(paths):
                yield f"volume {name} ({shown} {quote(source.get(key, ''))}): overlapping paths: {text}"
    paths = [(item.get("path", ""), "") for item in (volume.get("downwardAPI") or {}).get("items") or ()]
    for text in _collisions(paths):
        yield f"volume {name} (DownwardAPI): overlapping paths: {text}"
    if projected := volume.get("projected"):
        listed: list[tuple[str, str]] = []
        for source in projected.get("sources") or ():
            if not any(value is not None for value in source.values()):
                yield f"volume {name} (Projected) has no sources provided"
            listed += _source_paths(source)
        for text in _collisions(listed):
            yield f"volume {name} (Projected): overlapping paths: {text}"


def _source_paths(source: Struct) -> list[tuple[str, str]]:
    for kind, shown in (("configMap", "ConfigMap"), ("secret", "Secret")):
        if own := source.get(kind):
            label = f"{shown} {quote(own.get('name', ''))}"
            return [(item.get("path", ""), label) for item in own.get("items") or ()]
    if own := source.get("downwardAPI"):
        return [(item.get("path", ""), "DownwardAPI") for item in own.get("items") or ()]
    if own := source.get("serviceAccountToken"):
        return [(own.get("path", ""), "ServiceAccountToken")]
    if own := source.get("clusterTrustBundle"):
        label = own.get("name") or own.get("signerName") or ""
        return [(own.get("path", ""), f"ClusterTrustBundle {quote(label)}")]
    own = source.get("podCertificate") or {}
    uses = (("certificateChainPath", "chain"), ("keyPath", "key"), ("credentialBundlePath", "credential bundle"))
    return [(own[name], f"PodCertificate {use}") for name, use in uses if own.get(name)]


def _collisions(paths: Sequence[tuple[str, str]]) -> Iterator[str]:
    seen: list[tuple[str, str]] = []
    for raw, source in paths:
        path = raw.rstrip("/")
        for other, owner in seen:
            same = path and other and (f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"))
            if same:
                yield f"{_with_source(path, source)} with {_with_source(other, owner)}"
        seen.append((path, source))


def _with_source(path: str, source: str) -> str:
    return f"{quote(path)} ({source})" if source else quote(path)


def _duplicates(spec: Struct, path: str) -> Iterator[str]:
    for field, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        seen: set[str] = set()
        for i, item in enumerate(spec.get(field) or ()):
            value = item.get(key, "")
            if value in seen:
                yield f"{path}.{field}[{i}].{key}: duplicate {key} {quote(value)}"
            seen.add(value)
    for i, item in enumerate(spec.get("imagePullSecrets") or ()):
        if not item.get("name"):
            yield f'{path}.imagePullSecrets[{i}].name: invalid empty name ""'
    yield from _fractions(spec.get("overhead") or {}, f"{path}.overhead")


def _fractions(values: Struct, path: str) -> Iterator[str]:
    for name in _BYTES:
        if (value := values.get(name)) is not None and -(-amount(value) // 10**6) % 1000:
            yield f"{path}[{name}]: fractional byte value {quote(value)} is invalid, must be an integer"


def _containers(spec: Struct, path: str) -> Iterator[str]:
    for container, where in containers_with_path(spec, path):
        resources = container.get("resources") or {}
        for name in ("limits", "requests"):
            if values := resources.get(name):
                yield from _fractions(values, f"{where}.resources.{name}")
        if len(container.get("env") or ()) > 1:
            yield from _hidden_variables(container["env"], f"{where}.env")


def _hidden_variables(env: Sequence[Struct], path: str) -> Iterator[str]:
    seen: set[str] = set()
    for i, variable in enumerate(env):
        name, value = variable.get("name", ""), variable.get("value", "")
        reference = f"$({name})"
        if name not in seen:
            seen.add(name)
        elif variable.get("valueFrom") is not None or value == reference or reference not in value:
            yield f"{path}[{i}]: hides previous definition of {quote(name)}, which may be dropped when using apply"


def _ports(spec: Struct, path: str) -> Iterator[str]:
    listed: dict[tuple[Any, Any], list[tuple[str, Struct]]] = {}
    names: dict[str, str] = {}
    clashes: list[str] = []
    for container, where in containers_with_path(spec, path):
        for i, port in enumerate(container.get("ports") or ()):
            here, name = f"{where}.ports[{i}]", port.get("name")
            if port.get("hostIP") and not port.get("hostPort"):
                yield f"{here}: hostIP set without hostPort: {_go_port(port)}"
            others = listed.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other, there in others:
                if text := _port_clash(port, there):
                    yield f"{here}: {text} port definition with {other}"
            others.append((here, port))
            if name in names:
                first = names[name]
                text = f"services and probes that select ports by name will use {first}"
                clashes.append(f"{here}: duplicate port name {quote(name)} with {first}, {text}")
            elif name:
                names[name] = here
    yield from clashes


def _go_port(port: Struct) -> str:
    """A port as Go prints a struct."""
    zeros = {"name": "", "hostPort": 0, "containerPort": 0, "protocol": "", "hostIP": ""}
    return "{" + " ".join(f"{name[0].upper()}{name[1:]}:{port.get(name, zero)}" for name, zero in zeros.items()) + "}"


def _port_clash(one: Struct, other: Struct) -> str:
    ips, ports = [p.get("hostIP", "") for p in (one, other)], [p.get("hostPort", 0) for p in (one, other)]
    if ips[0] == ips[1] and ports[0] == ports[1]:
        return "duplicate"
    if not ports[0] or not ports[1]:
        return "overlapping"
    return "dangerously ambiguous" if ports[0] == ports[1] and not all(ips) else ""


def _rest(spec: Struct, path: str) -> Iterator[str]:
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        yield f"{path}.terminationGracePeriodSeconds: {text}"
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        own = affinity.get(kind) or {}
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        for i, term in enumerate(own.get(required) or ()):
            if term.get("labelSelector") is None:
                yield f"{path}.affinity.{kind}.{required}[{i}].labelSelector: {_NULL_SELECTOR}"
        preferred = "preferredDuringSchedulingIgnoredDuringExecution"
        for i, weighted in enumerate(own.get(preferred) or ()):
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{path}.affinity.{kind}.{preferred}[{i}].podAffinityTerm.labelSelector: {_NULL_SELECTOR}"
    for i, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        yield from ip_warnings(f"{path}.dnsConfig.nameservers[{i}]", server)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        yield from ip_warnings(f"{path}.hostAliases[{i}].ip", alias.get("ip", ""))
