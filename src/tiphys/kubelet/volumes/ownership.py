"""fsGroup: files of a volume belong to a group of the pod's, which may read and write them.

A container may change the directory meanwhile, so nothing is followed: everything is opened first, then changed.
Source: "Configure a Security Context for a Pod or Container" (fsGroup, fsGroupChangePolicy).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tiphys.kubelet.podspec import Object, all_containers

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITABLE, _READABLE = 0o660, 0o440
_ENTER = 0o2110


@dataclass(slots=True)
class Count:
    """How many files were given so far; for who watches."""

    files: int = 0


def give_to_group(root: Path, group: int, *, always: bool, readonly: bool = False, count: Count | None = None) -> None:
    """Give `root` and all below to `group`; without `always` only if `root` is not the group's. Raises OSError."""
    count = count or Count()
    mask = _READABLE if readonly else _WRITABLE
    if not always and _given(os.lstat(root), group, mask | _ENTER):
        return
    for _, directories, files, handle in os.fwalk(root, topdown=False):
        for name in (*directories, *files):
            _give(name, group, mask, handle)
            count.files += 1
    _give(str(root), group, mask, None)


def _given(found: os.stat_result, group: int, mask: int) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_gid == group and found.st_mode & mask == mask


def _give(name: str, group: int, mask: int, directory: int | None) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.chown(name, -1, group, dir_fd=directory, follow_symlinks=False)
        return
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return
    handle = os.open(name, _FLAGS, dir_fd=directory)
    try:
        found = os.fstat(handle)
        os.fchown(handle, -1, group)
        wanted = mask | _ENTER if stat.S_ISDIR(found.st_mode) else mask
        os.fchmod(handle, stat.S_IMODE(found.st_mode) | wanted)
    finally:
        os.close(handle)


def single_user(pod: Object) -> int | None:
    """The UID that all containers are asked to run as: private files such as tokens are given to it. Pure."""
    whole = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    found: set[int] = set()
    for container in all_containers(pod):
        own = (container.get("securityContext") or {}).get("runAsUser")
        user = whole if own is None else own
        if user is None:
            return None
        found.add(int(user))
    return found.pop() if len(found) == 1 else None
