"""Mounts in pods' directories: made, found and taken off. What cannot be taken off is never descended into."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.base.files import remove_tree
from tiphys.kubelet.volumes.payload import VolumeError

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
_FLAGS = {"ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
_MNT_FORCE, _MNT_DETACH = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    path: Path
    device: str
    """major:minor of the file system."""
    kind: str


_CODES = ((b"\\", b"\\134"), (b" ", b"\\040"), (b"\t", b"\\011"), (b"\n", b"\\012"))


def mount_points(below: Path = Path("/")) -> list[MountPoint]:
    """The mounts at and below a path without symlinks that this process sees, in the order in which they were made."""
    return list(parse_mountinfo(Path("/proc/self/mountinfo").read_bytes(), below))


def parse_mountinfo(text: bytes, below: Path = Path("/")) -> Iterator[MountPoint]:
    """Lines of mountinfo; spaces and the like in paths are octal there. Pure."""
    needle = os.fsencode(below)
    for char, code in _CODES:
        needle = needle.replace(char, code)
    for line in text.splitlines():
        if needle not in line:  # there may be thousands
            continue
        fields = line.split(b" ")
        name = fields[4]
        for char, code in reversed(_CODES):
            name = name.replace(code, char)
        path = Path(os.fsdecode(name))
        if path.is_relative_to(below):
            yield MountPoint(path, fields[2].decode(), fields[fields.index(b"-") + 1].decode())


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted exactly there, a bind mount of the same file system included. What is mounted is
    not touched: it may be a server that does not answer."""
    real = Path(os.path.realpath(path.parent), path.name)
    return any(point.path == real for point in mount_points(real))


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def mount_tmpfs(target: Path, size: int) -> None:
    """A file system in memory of at most `size` bytes (0: half the machine's), never swapped out where Linux can.

    Raises VolumeError."""
    options = [f"size={size}"] if size > 0 else []
    try:
        try:
            mount("tmpfs", target, "tmpfs", options=",".join([*options, "noswap"]))
        except OSError as error:
            if error.errno != errno.EINVAL:  # before Linux 6.4
                raise
            mount("tmpfs", target, "tmpfs", options=",".join(options))
    except OSError as error:
        raise VolumeError(f"cannot mount tmpfs at {target}: {error.strerror}") from error


def bind(source: Path, target: Path, options: Sequence[str]) -> None:
    """Show `source` at `target`; options are ro, nosuid, nodev and noexec. Raises VolumeError, OSError."""
    flags = 0
    for option in options:
        if option not in _FLAGS:
            raise VolumeError(f"mount option {option!r} is not supported for a directory of this node")
        flags |= _FLAGS[option]
    mount(str(source), target, "", MS_BIND)
    if flags:
        try:
            mount("", target, "", MS_BIND | MS_REMOUNT | flags)
        except OSError:
            unmount(target)
            raise


def unmount(target: Path, *, remote: bool = False) -> None:
    """Take off what is mounted at `target`; what is in use goes when its last user does, and so does what is `remote`,
    without asking the server. Raises OSError."""
    if _libc.umount2(os.fsencode(target), _MNT_FORCE | _MNT_DETACH if remote else 0) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EBUSY and _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        return
    raise OSError(code, os.strerror(code), str(target))


def remove_directory(directory: Path) -> None:
    """Remove a directory with all that is mounted below it, but nothing of what is in those mounts. Raises OSError."""
    for point in reversed(_below(directory)):
        unmount(point.path, remote=point.kind.startswith("nfs"))
    if left := _below(directory):
        raise OSError(errno.EBUSY, "still mounted", str(left[0].path))
    remove_tree(directory)


def _below(directory: Path) -> list[MountPoint]:
    return mount_points(Path(os.path.realpath(directory)))
