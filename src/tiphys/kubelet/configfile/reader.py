"""From a KubeletConfiguration to the fields of `KubeletConfig`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent
from tiphys.kubelet.configfile.document import load
from tiphys.kubelet.configfile.fields import FIELDS, HARMLESS, UNSET
from tiphys.kubelet.configfile.validation import check
from tiphys.kubelet.eviction.signals import DEFAULT_HARD
from tiphys.kubelet.server.settings import NAMES as SERVED

log = logging.getLogger(__name__)


def read_config(file: Path | None, directory: Path | None = None) -> dict[str, Any]:
    """Fields as KubeletConfig names them, of a file and the drop-ins of a directory.

    What is not served is kept in `extra` and said. Raises Permanent for what is not valid or not supported, OSError.
    """
    document = load(file, directory)
    whole = copy.deepcopy(document)
    found: dict[str, Any] = {}
    for path, (name, convert) in FIELDS.items():
        value = _take(document, path)
        if value is not None and value not in UNSET.get(convert, ()):
            found[name] = _converted(path, value, convert)
    if problems := check(whole):
        raise Permanent(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    merge = bool(_take(document, "mergeDefaultEvictionSettings"))
    if "eviction_hard" in found and merge:
        found["eviction_hard"] = {**DEFAULT_HARD, **found["eviction_hard"]}
    if "status_update_frequency" in found:
        found.setdefault("status_report_frequency", found["status_update_frequency"])
    leaves = [(path, value) for path, value in _leaves(document) if path.partition(".")[0] not in SERVED]
    if unknown := sorted(path for path, value in leaves if value not in HARMLESS.get(path, ())):
        log.warning("these fields of the kubelet's configuration have no effect: %s", ", ".join(unknown))
    return found | {"extra": document}


def _converted(path: str, value: Any, convert: Any) -> Any:
    try:
        return convert(value)
    except Permanent as error:
        raise Permanent(f"KubeletConfiguration.{path}: {error}") from error


def _take(document: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, which is taken out."""
    first, _, rest = path.partition(".")
    if not rest:
        return document.pop(first, None)
    inner = document.get(first)
    if not isinstance(inner, dict):
        return None
    found = _take(inner, rest)
    if not inner:
        del document[first]
    return found


def _leaves(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            found.append((f"{prefix}{name}", value))
    return found
