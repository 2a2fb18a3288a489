"""CredentialProviderConfig (kubelet.config.k8s.io/v1): which plugins there are and for which images, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent

API_VERSIONS = tuple(f"credentialprovider.kubelet.k8s.io/{version}" for version in ("v1", "v1alpha1", "v1beta1"))
_CACHE_TYPES = ("ServiceAccount", "Token")


@dataclass(frozen=True, slots=True)
class Provider:
    """One plugin. `cache_seconds` holds for answers that say nothing about it."""

    name: str
    api_version: str
    match_images: tuple[str, ...]
    cache_seconds: float
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    audience: str = ""
    """Of the service account tokens that it is given; "": it gets none."""
    require_account: bool = False
    required_annotations: tuple[str, ...] = ()
    optional_annotations: tuple[str, ...] = ()
    cache_type: str = ""
    """ServiceAccount or Token: what its answers are bound to."""


def read_providers(path: Path) -> list[Provider]:
    """From a file, or from a directory's *.json, *.yaml and *.yml in order. Raises Permanent, OSError."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".yaml", ".yml") and file.is_file())
        if not files:
            raise Permanent(f"no configuration files found in directory {str(path)!r}")
    providers = [provider for file in files for provider in _read(file)]
    names = [provider.name for provider in providers]
    for name in names:
        if names.count(name) > 1:
            raise Permanent(f'duplicate provider name "{name}" found in configuration file(s)')
    return providers


def _read(file: Path) -> Iterator[Provider]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise Permanent(f"{file}: {error}") from error
    if not isinstance(document, Mapping) or document.get("kind") != "CredentialProviderConfig":
        raise Permanent(f"{file} is not a CredentialProviderConfig")
    if not str(document.get("apiVersion") or "").startswith("kubelet.config.k8s.io/"):
        raise Permanent(f"{file}: apiVersion {document.get('apiVersion')!r} is not supported")
    if not document.get("providers"):
        raise Permanent(f"{file}: providers: Required value: at least 1 item in plugins is required")
    for entry in document["providers"]:
        yield provider_of(entry)


def provider_of(entry: Mapping[str, Any]) -> Provider:
    """One entry of `providers`, checked. Raises Permanent."""
    from tiphys.base.durations import parse_duration

    name = str(entry.get("name") or "")
    if not name or "/" in name or " " in name or name in (".", ".."):
        raise Permanent(f'providers.name: Invalid value: "{name}": not the name of a program')
    if entry.get("apiVersion") not in API_VERSIONS:
        raise Permanent(f'providers.apiVersion: Unsupported value: "{entry.get("apiVersion") or ""}"')
    if not entry.get("matchImages"):
        raise Permanent("providers.matchImages: Required value: at least 1 item in matchImages is required")
    if entry.get("defaultCacheDuration") is None:
        raise Permanent("providers.defaultCacheDuration: Required value")
    return Provider(
        name=name,
        api_version=str(entry["apiVersion"]),
        match_images=tuple(map(str, entry["matchImages"])),
        cache_seconds=parse_duration(str(entry["defaultCacheDuration"])),
        args=tuple(map(str, entry.get("args") or ())),
        env=tuple((str(one["name"]), str(one.get("value") or "")) for one in entry.get("env") or ()),
        **_token_attributes(entry),
    )


def _token_attributes(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = entry.get("tokenAttributes")
    if not found:
        return {}
    where = "providers.tokenAttributes"
    required = tuple(found.get("requiredServiceAccountAnnotationKeys") or ())
    optional = tuple(found.get("optionalServiceAccountAnnotationKeys") or ())
    if entry["apiVersion"] != API_VERSIONS[0]:
        raise Permanent(f"{where}: Forbidden: tokenAttributes is only supported for {API_VERSIONS[0]} API version")
    if not found.get("serviceAccountTokenAudience"):
        raise Permanent(f"{where}.serviceAccountTokenAudience: Required value")
    if found.get("requireServiceAccount") is None:
        raise Permanent(f"{where}.requireServiceAccount: Required value")
    if required and not found["requireServiceAccount"]:
        raise Permanent(
            f"{where}.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when "
            "requiredServiceAccountAnnotationKeys is set"
        )
    if set(required) & set(optional):
        raise Permanent(f"{where}: Invalid value: annotation keys cannot be both required and optional")
    if found.get("cacheType") not in _CACHE_TYPES:
        raise Permanent(f"{where}.cacheType: must be one of {', '.join(_CACHE_TYPES)}")
    return {
        "audience": str(found["serviceAccountTokenAudience"]),
        "require_account": bool(found["requireServiceAccount"]),
        "required_annotations": required,
        "optional_annotations": optional,
        "cache_type": str(found["cacheType"]),
    }
