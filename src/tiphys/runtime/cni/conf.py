"""Network configurations of third-party plugins: files in a directory, and what each plugin is told (CNI spec 1.1).

Pure but for `load`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.runtime.types import RuntimeFailure

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Of the CNI specification, that configurations may be written for."""
NOT_INITIALIZED = "cni plugin not initialized"
_SUFFIXES = (".conf", ".conflist", ".json")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class CniError(RuntimeFailure):
    """A configuration or a plugin; the message names the file or the plugin."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A list of plugins, carried out in this order. `source` is the file."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False
    source: str = ""

    def since(self, version: str) -> bool:
        """Whether it is written for this version of the specification or a later one."""
        return VERSIONS.index(self.version) >= VERSIONS.index(version)


def load(directory: Path) -> NetworkConfig:
    """That of the first file by name; those that cannot be read are passed over. Raises CniError when there is none."""
    problems: list[str] = []
    try:
        files = sorted(file for file in directory.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    except OSError as error:
        files, problems = [], [f"{directory}: {error.strerror}"]
    for file in files:
        try:
            return parse(json.loads(file.read_bytes()), str(file))
        except (OSError, ValueError) as error:
            problems.append(f"{file}: {error}")
        except CniError as error:
            problems.append(str(error))
    raise CniError(f"{NOT_INITIALIZED}{': ' + '; '.join(problems) if problems else ''}")


def parse(content: Any, source: str) -> NetworkConfig:
    """A list of plugins, or a single plugin's configuration, which is a list of one. Raises CniError."""
    if not isinstance(content, dict):
        raise CniError(f"{source}: not an object")
    is_list = "plugins" in content
    plugins = content["plugins"] if is_list else [content]
    if not isinstance(plugins, list) or not plugins or not all(map(_is_plugin, plugins)):
        raise CniError(f"{source}: plugins must be objects with a type, and at least one")
    name = content.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CniError(f"{source}: name {name!r} must match {_NAME.pattern}")
    no_check, no_gc = (content.get(flag) in (True, "true") for flag in ("disableCheck", "disableGC"))
    return NetworkConfig(name, _version(content, source), tuple(plugins), no_check, no_gc, source)


def _is_plugin(plugin: object) -> bool:
    kind = plugin.get("type") if isinstance(plugin, dict) else None
    return isinstance(kind, str) and bool(kind) and "/" not in kind


def _version(content: Mapping[str, Any], source: str) -> str:
    """The latest one that both know (`cniVersions`, since 1.1.0)."""
    offered = content.get("cniVersions") or [content.get("cniVersion")]
    known = [version for version in VERSIONS if isinstance(offered, list) and version in offered]
    if not known:
        raise CniError(f"{source}: cniVersion {content.get('cniVersion')!r} is none of {', '.join(VERSIONS)}")
    return known[-1]


def execution(
    config: NetworkConfig,
    plugin: Mapping[str, Any],
    *,
    capabilities: Mapping[str, Any] | None = None,
    previous: Mapping[str, Any] | None = None,
    valid: Sequence[Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """What a plugin reads from its standard input. It is told of those `capabilities` that it has declared, of the
    `previous` plugin's result, and for GC of the attachments that are still `valid`."""
    wanted = {name for name, has in (plugin.get("capabilities") or {}).items() if has is True}
    told = {name: value for name, value in (capabilities or {}).items() if name in wanted}
    own = {name: value for name, value in plugin.items() if name not in ("capabilities", "runtimeConfig", "prevResult")}
    return {
        **own,
        "cniVersion": config.version,
        "name": config.name,
        **({"runtimeConfig": told} if told else {}),
        **({"prevResult": previous} if previous is not None else {}),
        **({"cni.dev/valid-attachments": list(valid)} if valid is not None else {}),
    }
