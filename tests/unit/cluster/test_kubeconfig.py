from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from tiphys.base.errors import Permanent
from tiphys.cluster import kubeconfig


def entry(name: str, server: str = "https://127.0.0.1:6443") -> kubeconfig.Config:
    return kubeconfig.entry(name, server, b"ca", b"cert", b"key")


def read(path: Path) -> kubeconfig.Config:
    config: kubeconfig.Config = yaml.safe_load(path.read_text())
    return config


def names(path: Path, section: str = "contexts") -> list[str]:
    return [item["name"] for item in read(path)[section]]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    return first, second


def test_a_new_file_is_private_and_selects_its_context(tmp_path: Path) -> None:
    path = tmp_path / "dir" / "config"
    assert kubeconfig.merge(entry("a"), str(path)) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path)["current-context"] == "a"


def test_other_entries_stay_and_the_same_name_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "config"
    kubeconfig.merge(entry("a"), str(path))
    kubeconfig.merge(entry("b"), str(path))
    kubeconfig.merge(entry("a", "https://127.0.0.1:7000"), str(path))
    assert names(path) == ["b", "a"]
    assert read(path)["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:7000"


def test_keeping_the_context_selects_only_when_nothing_was(tmp_path: Path) -> None:
    path = tmp_path / "config"
    kubeconfig.merge(entry("a"), str(path), select=False)
    kubeconfig.merge(entry("b"), str(path), select=False)
    assert read(path)["current-context"] == "a"


def test_without_a_list_the_home_directory_s_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kubeconfig.merge(entry("a")) == tmp_path / ".kube" / "config"


def test_of_a_list_a_new_context_goes_to_the_last_file_if_none_exists(two: tuple[Path, Path]) -> None:
    assert kubeconfig.merge(entry("a")) == two[1]


def test_of_a_list_the_file_that_has_the_context_is_changed(two: tuple[Path, Path]) -> None:
    first, second = two
    kubeconfig.merge(entry("a"), str(second))
    kubeconfig.merge(entry("b"), str(first))
    assert kubeconfig.merge(entry("a")) == second
    assert names(first) == ["b"]


def test_selecting_in_a_later_file_unselects_the_earlier_ones(two: tuple[Path, Path]) -> None:
    first, second = two
    kubeconfig.merge(entry("a"), str(second))
    kubeconfig.merge(entry("b"), str(first))
    kubeconfig.merge(entry("a"))
    assert read(first)["current-context"] == ""
    assert read(second)["current-context"] == "a"


def test_removing_takes_out_every_section_and_the_selection(tmp_path: Path) -> None:
    path = tmp_path / "config"
    kubeconfig.merge(entry("a"), str(path))
    kubeconfig.merge(entry("b"), str(path))
    assert kubeconfig.remove("b", str(path)) == [path]
    assert [names(path, section) for section in kubeconfig.SECTIONS] == [["a"], ["a"], ["a"]]
    assert read(path)["current-context"] == ""
    assert kubeconfig.remove("b", str(path)) == []


@pytest.mark.parametrize("text", ["- a list", "{broken", "contexts: text", "contexts: [1]"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(Permanent, match="left alone"):
        kubeconfig.merge(entry("a"), str(path))
    assert path.read_text() == text
    assert not path.with_name("config.lock").exists()


def test_a_held_lock_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "LOCK_WAIT", 0.0)
    path = tmp_path / "config"
    path.with_name("config.lock").touch()
    with pytest.raises(Permanent, match=r"config\.lock"):
        kubeconfig.merge(entry("a"), str(path))


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "config"
    real.write_text("{}")
    link.symlink_to(real)
    kubeconfig.merge(entry("a"), str(link))
    assert link.is_symlink()
    assert names(real) == ["a"]


@pytest.mark.parametrize("age", [0.0, 3600.0])
def test_the_lock_of_a_killed_writer_is_taken_over(tmp_path: Path, age: float) -> None:
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    lock.write_text("" if age else str(2**22 + 1))  # no process has that number
    os.utime(lock, (lock.stat().st_mtime - age,) * 2)
    kubeconfig.merge(entry("a"), str(path))
    assert names(path) == ["a"]
    assert not lock.exists()


def test_a_directory_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="Is a directory"):
        kubeconfig.check(str(tmp_path))
