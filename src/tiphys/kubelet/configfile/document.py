"""KubeletConfiguration documents: loaded, and drop-ins of a directory merged over them.

Drop-ins are files of a directory and those below it whose names end in .conf, in the order of their names; each is a
JSON merge patch (RFC 7386) of what was before it: maps merge, everything else is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent

KIND, VERSION = "KubeletConfiguration", "kubelet.config.k8s.io/v1beta1"


def load(file: Path | None, directory: Path | None = None) -> dict[str, Any]:
    """The whole, without apiVersion and kind. Raises Permanent for what is no KubeletConfiguration, OSError."""
    document = _read(file) if file is not None else {}
    for drop_in in _drop_ins(directory) if directory is not None else ():
        document = merged(document, _read(drop_in))
    return document


def _drop_ins(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        raise Permanent(f"--config-dir {directory}: no such directory")
    yield from sorted(found for found in directory.rglob("*.conf") if found.is_file())


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Permanent(f"{file} is neither YAML nor JSON: {error}") from error
    if not isinstance(document, dict) or document.pop("kind", KIND) != KIND:
        raise Permanent(f"{file} is not a {KIND}")
    if (version := document.pop("apiVersion", VERSION)) != VERSION:
        raise Permanent(f'{file}: no kind "{KIND}" is registered for version "{version}"')
    return document


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    found = dict(base)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping):
            known = found.get(name)
            found[name] = merged(known if isinstance(known, Mapping) else {}, value)
        else:
            found[name] = value
    return found
