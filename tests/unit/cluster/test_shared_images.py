"""Whose containers keep an image in the store that all nodes of a machine share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tiphys.cluster import images, paths, teardown


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one container."""
    monkeypatch.setenv("TIPHYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIPHYS_RUN", str(tmp_path / "run"))
    directory = tmp_path / "kubelet" / "runtime"
    container = directory / "containers" / "one"
    container.mkdir(parents=True)
    (container / "prepared.json").write_text(json.dumps({"image": "sha256:abc"}))
    return directory


def test_a_kubelet_by_itself_keeps_the_images_of_its_containers(runtime: Path) -> None:
    assert not images.in_use("sha256:abc")
    images.remember(runtime)
    images.remember(runtime)
    assert images.alone() == [runtime]
    assert images.in_use("sha256:abc")
    assert not images.in_use("sha256:other")
    shutil.rmtree(runtime)
    assert not images.in_use("sha256:abc")


def test_images_go_with_the_last_user(runtime: Path) -> None:
    images.store()
    images.remember(runtime)
    teardown.remove_shared_if_last()
    assert paths.images_dir().exists()
    shutil.rmtree(runtime)
    teardown.remove_shared_if_last()
    assert not paths.home().exists()
