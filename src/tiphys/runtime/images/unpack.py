"""Unpack a layer into a directory, as overlayfs wants it, whatever the layer contains.

Nothing is written outside the directory: every parent is opened by openat2 as if the directory were the root, and
the last component is made by its name inside that parent, never followed. Whiteouts become what overlayfs expects:
character device 0/0, and trusted.overlay.opaque on directories. Device nodes are left out: a container's /dev is
its own. Sources: OCI image specification (layer), kernel documentation of overlayfs, openat2(2).
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tiphys.runtime import syscalls, userns
from tiphys.runtime.types import InvalidSpec, RuntimeFailure

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_ATTRIBUTE = "trusted.overlay.opaque" if userns.is_initial() else "user.overlay.opaque"
XATTR = "SCHILY.xattr."
KEPT_ATTRIBUTES = ("security.capability", "user.")
OURS = "user.overlay."
"""What decides how layers are stacked is not for images to say."""
CHUNK = 1 << 20
MAX_NAME = 4096
MAX_DEPTH = 256
_PARENT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def unpack(stream: IO[bytes], directory: Path) -> int:
    """Unpack the uncompressed tar `stream` into the empty `directory`; returns bytes of file content.

    Raises InvalidSpec for a path that leads out of it or a tar that cannot be read, RuntimeFailure when the disk is
    full or broken.
    """
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    total = 0
    times: list[tuple[str, float]] = []
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                total += _unpack_one(archive, member, root)
                if member.isdir():
                    times.append((member.name, member.mtime))
        for name, mtime in reversed(times):
            _touch_directory(root, name, mtime)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidSpec(f"a layer is not a tar file: {error}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidSpec(f"a layer has an impossible entry: {error}") from error
    except OSError as error:
        raise RuntimeFailure(f"cannot unpack a layer: {error.strerror or error}") from error
    finally:
        os.close(root)
    return total


def clean(name: str) -> list[str]:
    """The components of a member's path. Raises InvalidSpec if one leads upwards."""
    if len(name) > MAX_NAME or "\0" in name:
        raise InvalidSpec(f"a layer contains an impossible path: {name[:80]!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if len(parts) > MAX_DEPTH:
        raise InvalidSpec(f"a layer contains a path of {len(parts)} directories: {name[:80]!r}")
    if ".." in parts:
        raise InvalidSpec(f"a layer contains a path that leads out of it: {name!r}")
    return parts


def _unpack_one(archive: tarfile.TarFile, member: tarfile.TarInfo, root: int) -> int:
    parts = clean(member.name)
    if not parts:
        _set_attributes(root, ".", member)
        return 0
    name = parts[-1]
    with _parent(root, parts[:-1]) as parent:
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", OPAQUE_ATTRIBUTE, b"y")
            return 0
        if name.startswith(WHITEOUT):
            hidden = name.removeprefix(WHITEOUT)
            if hidden in ("", ".", ".."):
                raise InvalidSpec(f"a layer contains an impossible whiteout: {member.name!r}")
            _hide(parent, hidden)
            return 0
        return _make(archive, member, root, parent, name)


def _hide(parent: int, name: str) -> None:
    """Hide what the layers below have there. What this layer made there itself stays: whiteouts never apply to it."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        return
    if stat.S_ISDIR(found.st_mode):
        _make_opaque(parent, name)


def _make_opaque(parent: int, name: str) -> None:
    os.setxattr(f"/proc/self/fd/{parent}/{name}", OPAQUE_ATTRIBUTE, b"y", follow_symlinks=False)


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, root: int, parent: int, name: str) -> int:
    if member.isdir():
        _make_directory(parent, name)
    elif member.isreg():
        _remove(parent, name)
        _write_file(archive, member, parent, name)
        _set_attributes(parent, name, member)
        return member.size
    elif member.issym():
        _remove(parent, name)
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.islnk():
        _hard_link(member, root, parent, name)
        return 0
    elif member.isfifo():
        _remove(parent, name)
        os.mkfifo(name, 0o600, dir_fd=parent)
    else:
        return 0
    _set_attributes(parent, name, member)
    return 0


@contextmanager
def _parent(root: int, parts: list[str]) -> Iterator[int]:
    """The directory `parts` below `root`, made if it is missing; symlinks stay inside the root."""
    try:
        handle = syscalls.openat2(root, "/".join(parts) or ".", _PARENT)
    except (FileNotFoundError, NotADirectoryError):
        handle = _make_parents(root, parts)
    except OSError as error:
        raise InvalidSpec(f"a layer's directory {'/'.join(parts)!r} cannot be opened: {error.strerror}") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _make_parents(root: int, parts: list[str]) -> int:
    for length in range(1, len(parts) + 1):
        with _parent(root, parts[: length - 1]) as above:
            _imply_directory(above, parts[length - 1])
    try:
        return syscalls.openat2(root, "/".join(parts), _PARENT)
    except OSError as error:
        raise InvalidSpec(f"a layer's directory {'/'.join(parts)!r} leads nowhere: {error.strerror}") from error


def _remove(parent: int, name: str) -> None:
    """What an earlier member of the same layer made there."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        _remove_tree(parent, name)


def _remove_tree(parent: int, name: str) -> None:
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for entry in os.listdir(handle):
            _remove(handle, entry)
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=parent)


def _new_directory(parent: int, name: str) -> None:
    os.mkdir(name, dir_fd=parent)
    os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - whatever the umask: containers' users must get through


def _make_directory(parent: int, name: str) -> None:
    try:
        _new_directory(parent, name)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return
        _remove(parent, name)
        _new_directory(parent, name)
        if _is_whiteout(found):
            _make_opaque(parent, name)  # else overlayfs would show the old directory's content in the new one


def _imply_directory(parent: int, name: str) -> None:
    """A directory that members are in but that has no member itself."""
    try:
        _new_directory(parent, name)
    except FileExistsError:
        if _is_whiteout(os.stat(name, dir_fd=parent, follow_symlinks=False)):
            _make_directory(parent, name)


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    source = archive.extractfile(member)
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    with os.fdopen(handle, "wb", buffering=0) as target:
        while source is not None and (chunk := source.read(CHUNK)):
            view = memoryview(chunk)
            while view:
                view = view[target.write(view) :]


def _hard_link(member: tarfile.TarInfo, root: int, parent: int, name: str) -> None:
    parts = clean(member.linkname)
    if not parts:
        raise InvalidSpec(f"a layer's hard link {member.name!r} names no file")
    with _parent(root, parts[:-1]) as directory:
        _remove(parent, name)
        try:
            os.link(parts[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            raise InvalidSpec(
                f"a layer's hard link {member.name!r} to {member.linkname!r}: {error.strerror}"
            ) from error


def _set_attributes(parent: int, name: str, member: tarfile.TarInfo) -> None:
    """Owner, then extended attributes and mode (a change of owner clears set-uid bits), then time."""
    try:
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EINVAL or userns.is_initial():  # one of the IDs that a namespace lacks: ours then
            raise
    path = f"/proc/self/fd/{parent}/{name}"
    for key, value in member.pax_headers.items():
        attribute = key.removeprefix(XATTR)
        if key.startswith(XATTR) and attribute.startswith(KEPT_ATTRIBUTES) and not attribute.startswith(OURS):
            with suppress(OSError):  # file systems differ in what they keep
                os.setxattr(path, attribute, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    if not member.issym():
        # made by us or just seen not to be a link: nobody else writes here
        os.chmod(path, member.mode & 0o7777)
    moment = int(member.mtime * 1e9)
    os.utime(name, ns=(moment, moment), dir_fd=parent, follow_symlinks=False)


def _touch_directory(root: int, name: str, mtime: float) -> None:
    """Members made after a directory changed its time: set it again."""
    parts = clean(name)
    if not parts:
        return
    moment = int(mtime * 1e9)
    with _parent(root, parts[:-1]) as parent, suppress(FileNotFoundError):
        os.utime(parts[-1], ns=(moment, moment), dir_fd=parent, follow_symlinks=False)
