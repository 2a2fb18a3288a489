"""Clusters of the same name in two homes share nothing of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.cluster import paths


def places(monkeypatch: pytest.MonkeyPatch, home: str) -> tuple[Path, str]:
    monkeypatch.delenv("TIPHYS_RUN", raising=False)
    monkeypatch.setenv("TIPHYS_HOME", home)
    return paths.run_root(), paths.cgroup("demo")


def test_the_usual_home_has_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert places(monkeypatch, paths.DEFAULT_HOME) == (Path("/run/tiphys"), "demo")


def test_other_homes_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = places(monkeypatch, "/srv/one"), places(monkeypatch, "/srv/other")
    assert one[0] != other[0]
    assert one[1] != other[1]
    assert one[1].endswith("-demo")
    assert one == places(monkeypatch, "/srv/one")
