"""Removing trees that somebody hostile made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.base.files import remove_tree


def test_a_tree_is_removed_and_what_its_symlinks_point_to_is_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    (kept / "file").write_text("x")
    doomed = tmp_path / "doomed"
    (doomed / "a/b/c").mkdir(parents=True)
    (doomed / "a/b/file").write_text("x")
    (doomed / "a/link").symlink_to(kept)
    (doomed / "a/b/dangling").symlink_to("/nowhere")
    remove_tree(doomed)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "inner", "kept"]
    remove_tree(doomed)


def test_a_symlink_in_place_of_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match=r"ymbolic|directory"):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "kept").is_dir()


def test_depth_costs_neither_stack_nor_descriptors(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        (tmp_path / "deep").mkdir()
        os.chdir(tmp_path / "deep")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        Path("last").write_text("x")
    finally:
        os.chdir(here)
    remove_tree(tmp_path / "deep")
    assert not (tmp_path / "deep").exists()
