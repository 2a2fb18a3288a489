"""Files that are whole or not there: written beside their place, synced, then renamed into it. And their removal."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` durably; readers see the old content or the new, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and removals in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    write_atomic(path, json.dumps(value, indent=2).encode() + b"\n", mode)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, made by whomever: of any depth, symlinks never followed, other file
    systems never entered. Harmless if it is not there. Raises OSError when something is left.

    shutil.rmtree needs a stack frame and a descriptor for each level, which a container can make to run out. Here
    each directory is moved up into `path` before it is emptied, so that two are open at most.
    """
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _empty(root)
    finally:
        os.close(root)
    os.rmdir(path)


def _empty(root: int) -> None:
    device, unique = os.fstat(root).st_dev, os.urandom(8).hex()
    waiting = _remove_files(root)
    count = 0
    while waiting:
        name = waiting.pop()
        handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        try:
            if os.fstat(handle).st_dev != device:
                raise OSError(errno.EXDEV, "another file system is mounted here", name)
            for inner in _remove_files(handle):
                count += 1
                moved = f"{unique}-{count}"
                os.rename(inner, moved, src_dir_fd=handle, dst_dir_fd=root)
                waiting.append(moved)
        finally:
            os.close(handle)
        os.rmdir(name, dir_fd=root)


def _remove_files(directory: int) -> list[str]:
    """Remove all but the directories in an open directory; returns those."""
    found = []
    for name in os.listdir(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            found.append(name)
        else:
            os.unlink(name, dir_fd=directory)
    return found
