"""emptyDir volumes: a directory that lives as long as its pod, on disk or in memory (tmpfs)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.api.quantity import parse
from tiphys.kubelet.volumes.payload import VolumeError

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def prepare_empty_dir(root: Path, source: Mapping[str, Any], group: int | None) -> Path:
    """The directory, made if it is not there; with medium Memory a tmpfs of sizeLimit. Raises VolumeError."""
    medium = str(source.get("medium") or "")
    if medium.startswith("HugePages"):
        raise VolumeError(f"emptyDir medium {medium!r} is not supported by this node")
    fresh = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    if medium == "Memory" and not os.path.ismount(root):
        _mount_tmpfs(root, source.get("sizeLimit"))
        fresh = True
    if fresh:
        root.chmod(0o777)
        if group is not None:
            os.chown(root, -1, group)
            root.chmod(0o2777)
    return root


def _mount_tmpfs(root: Path, limit: Any) -> None:
    options = "mode=0777"
    if limit is not None and (size := parse(str(limit)).value) > 0:
        options += f",size={size}"
    if _libc.mount(b"tmpfs", os.fsencode(root), b"tmpfs", 0, options.encode()) != 0:
        code = ctypes.get_errno()
        raise VolumeError(f"cannot mount tmpfs at {root}: {os.strerror(code)}")


def unmount(root: Path) -> None:
    """Take off what is mounted at `root`. Raises OSError."""
    if os.path.ismount(root) and _libc.umount2(os.fsencode(root), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(root))
