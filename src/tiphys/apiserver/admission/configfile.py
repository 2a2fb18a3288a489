"""--admission-control-config-file: an AdmissionConfiguration, with the configurations of plugins inside or by path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent

GROUP, KIND = "apiserver.config.k8s.io", "AdmissionConfiguration"
VERSIONS = (f"{GROUP}/v1", "apiserver.k8s.io/v1alpha1")
FIELDS = {"name", "path", "configuration"}


def load(path: Path) -> dict[str, Any]:
    """Configurations by plugin. Raises Permanent."""
    document = _document(path)
    if document.get("kind") != KIND or document.get("apiVersion") not in VERSIONS:
        raise Permanent(f"--admission-control-config-file {path}: wanted is {KIND} of {VERSIONS[0]}")
    unknown = set(document) - {"kind", "apiVersion", "plugins"}
    if unknown:
        raise Permanent(f'--admission-control-config-file {path}: unknown field "{sorted(unknown)[0]}"')
    found: dict[str, Any] = {}
    for number, plugin in enumerate(document.get("plugins") or ()):
        name, configuration = _plugin(path, f"plugins[{number}]", plugin)
        found.setdefault(name, configuration)  # as upstream: the first one of a name counts
    return found


def _plugin(path: Path, where: str, plugin: Any) -> tuple[str, Any]:
    from tiphys.apiserver.admission.chain import ORDER

    if not isinstance(plugin, Mapping) or set(plugin) - FIELDS:
        raise Permanent(
            f"--admission-control-config-file {path}: {where}: only {', '.join(sorted(FIELDS))} may be there"
        )
    name = plugin.get("name")
    if name not in ORDER:
        raise Permanent(f"--admission-control-config-file {path}: {where}: there is no admission plugin {name}")
    if plugin.get("configuration") is not None:
        return str(name), plugin["configuration"]
    if plugin.get("path"):
        file = Path(plugin["path"])
        return str(name), _document(file if file.is_absolute() else path.parent / file)
    return str(name), None


def _document(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise Permanent(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Permanent(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise Permanent(f"{path}: not an object")
    return document
