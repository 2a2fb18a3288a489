"""PodSecurityConfiguration (pod-security.admission.config.k8s.io): defaults of namespaces, and exemptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.validation.names import dns_label, dns_subdomain
from tiphys.apiserver.admission.podsecurity.levels import (
    EVERYTHING,
    LATEST,
    LEVELS,
    MODES,
    PRIVILEGED,
    LevelVersion,
    Policy,
    parse_level,
    parse_version,
)
from tiphys.base.errors import Permanent

GROUP = "pod-security.admission.config.k8s.io"
VERSIONS = ("v1", "v1beta1", "v1alpha1")
EXEMPTIONS = ("usernames", "namespaces", "runtimeClasses")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the plugin goes by."""

    defaults: Policy = EVERYTHING
    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


def read(struct: Mapping[str, Any] | None) -> Configuration:
    """From the file's object; None: upstream's defaults. Raises Permanent."""
    if struct is None:
        return Configuration()
    group, _, version = str(struct.get("apiVersion")).rpartition("/")
    if struct.get("kind") != "PodSecurityConfiguration" or group != GROUP or version not in VERSIONS:
        raise Permanent(f"PodSecurity: the configuration must be a PodSecurityConfiguration of {GROUP}/v1")
    unknown = sorted(set(struct) - {"kind", "apiVersion", "defaults", "exemptions"})
    defaults, exemptions = struct.get("defaults") or {}, struct.get("exemptions") or {}
    unknown += [f"defaults.{key}" for key in defaults if key.removesuffix("-version") not in MODES]
    unknown += [f"exemptions.{key}" for key in exemptions if key not in EXEMPTIONS]
    if unknown:
        raise Permanent(f'PodSecurity: unknown field "{unknown[0]}"')
    names = {field: _names(field, exemptions.get(field) or ()) for field in EXEMPTIONS}
    return Configuration(
        Policy(**{mode: _level(defaults, mode) for mode in MODES}),
        names["usernames"],
        names["namespaces"],
        names["runtimeClasses"],
    )


def _level(defaults: Mapping[str, Any], mode: str) -> LevelVersion:
    level = parse_level(str(defaults.get(mode) or PRIVILEGED))
    if level is None:
        problem = f'defaults.{mode}: Invalid value: "{defaults[mode]}": must be one of {", ".join(LEVELS)}'
        raise Permanent(f"PodSecurity: {problem}")
    text = str(defaults.get(f"{mode}-version") or "latest")
    minor = parse_version(text)
    if minor is None:
        raise Permanent(f'PodSecurity: defaults.{mode}-version: Invalid value: "{text}": must be "latest" or "v1.x"')
    return LevelVersion(level, LATEST if minor is None else minor)


def _names(field: str, values: Any) -> frozenset[str]:
    seen: set[str] = set()
    for number, name in enumerate(values):
        path = f"PodSecurity: exemptions.{field}[{number}]"
        if field == "usernames":
            problems = [] if name else ["username must not be empty"]
        else:
            problems = list(dns_label(name) if field == "namespaces" else dns_subdomain(name))
        if problems:
            raise Permanent(f'{path}: Invalid value: "{name}": {", ".join(problems)}')
        if name in seen:
            raise Permanent(f'{path}: Duplicate value: "{name}"')
        seen.add(name)
    return frozenset(seen)
