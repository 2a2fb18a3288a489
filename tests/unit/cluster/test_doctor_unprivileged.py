"""The doctor's questions for whom is not root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.cluster import doctor, unprivileged


def refuse() -> None:
    raise OSError(1, "not for you")


def test_what_is_tried_apart_is_tried_as_root_of_a_user_namespace(tmp_path: Path) -> None:
    try:
        unprivileged.apart(lambda: (tmp_path / "who").write_text(str(os.geteuid())))
    except OSError as error:
        pytest.skip(f"no user namespaces: {error}")
    assert (tmp_path / "who").read_text() == "0"
    with pytest.raises(OSError, match="not for you"):
        unprivileged.apart(refuse)


def test_a_user_is_told_of_rootless_mode_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(unprivileged, "apart", tried.append)
    found = {one.name: one for one in doctor.examine()}
    assert "rootless mode" in found["root"].detail
    assert found["capabilities"].ok
    assert not any(found[name].needed for name in ("root", "cgroups", "user's IDs"))
    assert found["bridges"].ok
    assert len(tried) == 4


def test_without_user_namespaces_nothing_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unprivileged, "apart", lambda _: refuse())
    finding = unprivileged.CHECKS["capabilities"]()
    assert (finding.ok, finding.needed, finding.detail) == (False, True, "no user namespace: not for you")
    assert "max_user_namespaces" in finding.advice


@pytest.mark.parametrize(
    ("programs", "ranges", "detail"),
    [
        (True, "1000:100000:65536", "a range for containers"),
        (False, "1000:100000:65536", "lacks newuidmap, newgidmap"),
        (True, "1001:100000:65536", "lacks a range in /etc/subuid, a range in /etc/subgid"),
    ],
)
def test_the_users_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: bool, ranges: str, detail: str
) -> None:
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(f"{ranges}\n")
    monkeypatch.setattr(unprivileged, "ETC", tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr("tiphys.cluster.unprivileged.shutil.which", lambda name: name if programs else None)
    assert unprivileged.CHECKS["user's IDs"]().detail == detail
