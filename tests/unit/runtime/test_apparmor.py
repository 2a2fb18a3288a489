"""AppArmor profiles, against a made-up /sys: the machines of the tests seldom have it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime import apparmor
from tiphys.runtime.types import InvalidSpec, RuntimeFailure


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that has AppArmor, with the profile `web`."""
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters/enabled").write_text("Y\n")
    (tmp_path / "kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "kernel/security/apparmor/profiles").write_text("web (enforce)\n")
    monkeypatch.setattr(apparmor, "SYS", tmp_path)
    monkeypatch.setattr(apparmor, "ETC", tmp_path / "etc")
    monkeypatch.setattr("tiphys.runtime.apparmor.shutil.which", lambda name, path="": name)
    return tmp_path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the parser was given."""
    texts: list[str] = []

    def run(command: list[str], *, input: str, **_: Any) -> subprocess.CompletedProcess[str]:
        texts.append(input)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("tiphys.runtime.apparmor.subprocess.run", run)
    return texts


def test_without_it_only_asking_for_a_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "SYS", tmp_path)
    assert apparmor.resolve("", privileged=False) == apparmor.resolve("unconfined", privileged=False) == ""
    for wanted in ("default", "web"):
        with pytest.raises(InvalidSpec, match="apparmor is not supported"):
            apparmor.resolve(wanted, privileged=False)


def test_inside_of_a_container_there_is_none(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apparmor.enabled()
    monkeypatch.setenv("container", "oci")
    assert not apparmor.enabled()
    assert apparmor.resolve("", privileged=False) == ""


def test_who_asks_for_nothing_gets_the_default_which_is_loaded_once(host: Path, loaded: list[str]) -> None:
    assert apparmor.resolve("", privileged=False) == apparmor.DEFAULT
    profiles = host / "kernel/security/apparmor/profiles"
    profiles.write_text(f"{profiles.read_text()}{apparmor.DEFAULT} (enforce)\n")
    assert apparmor.resolve("default", privileged=False) == apparmor.DEFAULT
    assert len(loaded) == 1
    assert f"profile {apparmor.DEFAULT} flags=(attach_disconnected,mediate_deleted) {{" in loaded[0]
    assert "deny mount," in loaded[0]
    assert "deny @{PROC}/sysrq-trigger rwklx," in loaded[0]


def test_privileged_containers_are_left_alone_unless_they_name_a_profile(host: Path, loaded: list[str]) -> None:
    assert apparmor.resolve("", privileged=True) == apparmor.resolve("default", privileged=True) == ""
    assert apparmor.resolve("localhost/web", privileged=True) == "web"
    assert loaded == []


def test_a_profile_that_is_not_loaded_is_refused(host: Path) -> None:
    with pytest.raises(InvalidSpec, match="apparmor profile not found web2"):
        apparmor.resolve("web2", privileged=False)


def test_what_the_parser_says_is_passed_on(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "no such abstraction\n")
    monkeypatch.setattr("tiphys.runtime.apparmor.subprocess.run", lambda *_, **__: failed)
    with pytest.raises(RuntimeFailure, match="no such abstraction"):
        apparmor.resolve("", privileged=False)


def test_the_hosts_own_tunables_are_included(host: Path) -> None:
    assert "@{PROC}=/proc/" in apparmor.profile("x")
    for name in ("tunables/global", "abstractions/base", "abi/3.0"):
        (host / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (host / "etc" / name).touch()
    text = apparmor.profile("x")
    assert text.startswith("abi <abi/3.0>,\n#include <tunables/global>\nprofile x ")
    assert "#include <abstractions/base>" in text
