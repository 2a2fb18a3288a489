"""KubeProxyConfiguration documents: read into flat values, and written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.durations import format_duration
from tiphys.base.errors import Permanent
from tiphys.proxy.configfile.fields import FIELDS, Values, defaulted, duration

log = logging.getLogger(__name__)

KIND, VERSION = "KubeProxyConfiguration", "kubeproxy.config.k8s.io/v1alpha1"
_LOGGING = {
    "flushFrequency": "5s",
    "format": "text",
    "options": {"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}},
    "verbosity": 0,
}
_LEFT_OUT_WHEN_UNSET = ("featureGates", "windowsRunAsService")


def read(file: Path) -> Values:
    """All fields of a file's document, defaulted. Raises Permanent for what is none, OSError.

    Fields that do not exist are said, no more: upstream reads this version leniently, too."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Permanent(f"{file} is neither YAML nor JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise Permanent(f"{file} is not a {KIND}")
    if (version := document.get("apiVersion")) != VERSION:
        raise Permanent(f'{file}: no kind "{KIND}" is registered for version "{version}"')
    given, unknown = {}, []
    for path, value in _leaves({name: value for name, value in document.items() if name not in ("kind", "apiVersion")}):
        if path not in FIELDS:
            unknown.append(path)
        elif value is not None:
            given[path] = _converted(path, value)
    if unknown:
        log.warning("%s: unknown fields: %s", file, ", ".join(sorted(unknown)))
    return defaulted(given)


def _converted(path: str, value: Any) -> Any:
    try:
        return FIELDS[path].convert(value)
    except Permanent as error:
        raise Permanent(f"failed to decode: {KIND}.{path}: {error}") from error


def _leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path not in FIELDS:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def nested(values: Values) -> dict[str, Any]:
    """The document of these values, as --write-config-to and /configz show it."""
    document: dict[str, Any] = {"apiVersion": VERSION, "kind": KIND}
    for path, value in values.items():
        if path in _LEFT_OUT_WHEN_UNSET and not value:
            continue
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = format_duration(value) if FIELDS[path].convert is duration else value
    document["logging"] = {**_LOGGING, **(values["logging"] or {})}
    return document


def write(values: Values, file: Path) -> None:
    """Raises OSError."""
    import yaml

    file.write_text(yaml.safe_dump(nested(values)))
