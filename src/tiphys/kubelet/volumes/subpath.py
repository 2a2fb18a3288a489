"""subPath: a part of a volume, made and resolved without ever leaving the volume.

A pod can put symlinks into its own volumes, so every step is opened with O_NOFOLLOW relative to the one before
(openat); the path that is mounted is then checked to be the opened file itself. Until it is mounted a directory
of it may become a symlink: the runtime is told that there are none (Mount.source_resolved) and refuses then.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tiphys.kubelet.volumes.payload import VolumeError


class _NotMade(OSError):
    """A missing directory of a subPath."""


def prepare_subpath(volume: Path, subpath: str, mount: str, container: str) -> Path:
    """The host path of `subpath` in `volume`; directories that are missing are made. Raises VolumeError."""
    try:
        return _walk(volume, parts_of(subpath))
    except OSError as error:
        # what exactly is in the way would tell the pod about the host's files
        step = "create subPath directory" if isinstance(error, _NotMade) else "prepare subPath"
        why = f'failed to {step} for volumeMount "{mount}" of container "{container}"'
        raise VolumeError(why) from error


def parts_of(subpath: str) -> list[str]:
    """Its components. Raises VolumeError for one that leads out of the volume."""
    if subpath.startswith("/"):
        raise VolumeError(f"error SubPath `{subpath}` must not be an absolute path")
    parts = [part for part in subpath.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise VolumeError(f"unable to provision SubPath `{subpath}`: must not contain '..'")
    return parts


def _walk(volume: Path, parts: list[str]) -> Path:
    real = Path(os.path.realpath(volume))
    current = os.open(real, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for index, part in enumerate(parts):
            following = _step(current, part, real, last=index == len(parts) - 1)
            os.close(current)
            current = following
        target = Path(os.readlink(f"/proc/self/fd/{current}"))
    finally:
        os.close(current)
    if target != real and real not in target.parents:
        raise OSError(errno.EXDEV, "it leaves the volume", str(target))
    return target


def _step(directory: int, part: str, root: Path, last: bool) -> int:
    """Open `part` below `directory`. A symlink is followed only to what stays below `root` (atomic volumes)."""
    try:
        info = os.stat(part, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        try:
            os.mkdir(part, dir_fd=directory)
        except OSError as error:
            raise _NotMade(error.errno, error.strerror, part) from error
        made = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=directory)
        os.fchmod(made, mode)
        return made
    if stat.S_ISLNK(info.st_mode):
        return _follow(directory, part, root)
    flags = os.O_PATH if last and not stat.S_ISDIR(info.st_mode) else os.O_RDONLY | os.O_DIRECTORY
    return os.open(part, flags | os.O_NOFOLLOW, dir_fd=directory)


def _follow(directory: int, part: str, root: Path) -> int:
    here = Path(os.readlink(f"/proc/self/fd/{directory}"))
    target = Path(os.path.realpath(here / part))
    if target != root and root not in target.parents:
        raise OSError(errno.EXDEV, "a symlink leaves the volume", part)
    return os.open(target, os.O_PATH | os.O_NOFOLLOW)
