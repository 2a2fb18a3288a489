"""Whether an image has a path, told from its layers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tiphys.runtime.images.lookup import has_path
from tiphys.runtime.images.unpack import OPAQUE_ATTRIBUTE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make whiteouts")


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    upper, middle, lower = (tmp_path / name for name in ("upper", "middle", "lower"))
    (lower / "a/b").mkdir(parents=True)
    (lower / "a/b/file").touch()
    (lower / "covered/below").mkdir(parents=True)
    (lower / "gone").mkdir()
    (middle / "covered").mkdir(parents=True)
    os.setxattr(middle / "covered", OPAQUE_ATTRIBUTE, b"y")
    (middle / "covered/new").touch()
    os.mknod(middle / "gone", stat.S_IFCHR, 0)
    (upper / "a").mkdir(parents=True)
    (upper / "link").symlink_to("a/b")
    (upper / "rooted").symlink_to("/a/../a/b/file")
    (upper / "out").symlink_to("../../../etc")
    (upper / "loop").symlink_to("loop")
    (upper / "file").touch()
    return [upper, middle, lower]


@pytest.mark.parametrize(
    "path", ["", ".", "a", "a/b/file", "link/file", "rooted", "covered/new", "file", "../a", "link/../b"]
)
def test_what_is_there(layers: list[Path], path: str) -> None:
    assert has_path(layers, path)


@pytest.mark.parametrize(
    "path", ["none", "covered/below", "gone", "gone/x", "out", "out/passwd", "loop", "file/x", "a/none", "rooted/x"]
)
def test_what_is_not_or_is_hidden(layers: list[Path], path: str) -> None:
    assert not has_path(layers, path)
