"""Commands that change a cluster take turns, and leave no lock of a cluster that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster import config as configs
from tiphys.cluster import lifecycle, paths


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path))
    return tmp_path / "clusters"


def progress(text: str) -> None:
    raise AssertionError(text)


def test_the_lock_of_a_cluster_that_is_gone_goes_even_when_its_deletion_was_cut_short(home: Path) -> None:
    home.mkdir()
    (home / "gone.lock").touch()
    with pytest.raises(Permanent, match="no cluster 'gone'"), lifecycle.changing("gone", progress):
        configs.deletable("gone")
    assert list(home.iterdir()) == []


def test_the_lock_of_a_cluster_that_is_there_stays(home: Path) -> None:
    home.mkdir()
    paths.pointer("here").write_text("{}")
    with lifecycle.changing("here", progress):
        assert (home / "here.lock").exists()
    assert (home / "here.lock").exists()
