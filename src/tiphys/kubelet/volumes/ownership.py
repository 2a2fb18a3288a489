"""fsGroup: files of a volume belong to a group of the pod's, which may read and write them.

A container may change the directory meanwhile, so nothing is followed: everything is opened first, then changed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE, _DIRECTORY = 0o660, 0o2770


def give_to_group(root: Path, group: int, *, always: bool) -> None:
    """Give `root` and all below to `group`; without `always` only if `root` is not the group's. Raises OSError."""
    if not always and _given(os.lstat(root), group):
        return
    for _, directories, files, handle in os.fwalk(root, topdown=False):
        for name in (*directories, *files):
            _give(name, group, handle)
    _give(str(root), group, None)


def _given(found: os.stat_result, group: int) -> bool:
    return found.st_gid == group and found.st_mode & _DIRECTORY == _DIRECTORY


def _give(name: str, group: int, directory: int | None) -> None:
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
        os.fchmod(handle, stat.S_IMODE(found.st_mode) | (_DIRECTORY if stat.S_ISDIR(found.st_mode) else _FILE))
    finally:
        os.close(handle)
