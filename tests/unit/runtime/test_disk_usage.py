"""What a directory takes on its disk, however it is made."""

from __future__ import annotations

import os
from pathlib import Path

from tiphys.base.files import remove_tree
from tiphys.runtime.usage import disk

BLOCK = 64 * 1024


def test_files_are_counted_once_and_links_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 16 * BLOCK)
    (inside / "file").write_bytes(b"x" * BLOCK)
    os.link(inside / "file", inside / "again")
    (inside / "away").symlink_to(outside)
    found = disk(str(inside))
    assert BLOCK <= found.bytes < 2 * BLOCK
    assert found.inodes == 3


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk(str(tmp_path / "none")).inodes == 0


def test_nothing_is_too_deep_to_be_counted(tmp_path: Path) -> None:
    """A path of more than PATH_MAX characters, made step by step as a container can."""
    top = tmp_path / "top"
    top.mkdir()
    descriptors = len(os.listdir("/proc/self/fd"))
    handle = os.open(top, os.O_RDONLY)
    for _ in range(60):
        name = "d" * 200
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    deep = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
    os.write(deep, b"x" * BLOCK)
    os.close(deep)
    os.close(handle)
    found = disk(str(top))
    assert found.inodes == 62
    assert found.bytes >= BLOCK
    assert len(os.listdir("/proc/self/fd")) == descriptors
    remove_tree(top)
