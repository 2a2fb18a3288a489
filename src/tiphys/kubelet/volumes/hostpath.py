"""hostPath volumes: a file, directory, socket or device of the node, checked or made by its type (core/v1)."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.kubelet.volumes.payload import VolumeError

_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def prepare_host_path(source: Mapping[str, Any]) -> Path:
    """The path on the host, there and of the wanted type. Raises VolumeError."""
    path = Path(str(source["path"]))
    kind = str(source.get("type") or "")
    if ".." in str(source["path"]).split("/"):
        raise VolumeError(f"invalid HostPath `{source['path']}`: must not contain '..'")
    try:
        _prepare(path, kind)
    except OSError as error:
        raise VolumeError(f"cannot prepare hostPath {path}: {error.strerror}") from error
    return path


def _prepare(path: Path, kind: str) -> None:
    if kind == "" and not path.exists():
        path.mkdir(parents=True, mode=0o755)  # as runtimes do for a missing bind source
    elif kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    wanted = kind.removesuffix("OrCreate")
    if wanted not in _CHECKS:
        return
    check, noun = _CHECKS[wanted]
    if not path.exists() or not check(path.stat().st_mode):
        raise VolumeError(f"hostPath type check failed: {path} is not {noun}")
