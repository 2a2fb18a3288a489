"""Who holds forwarding, and what is put back: over files instead of the kernel's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiphys.runtime import forwarding


class Links:
    """Devices that exist."""

    names: set[str] = set()  # noqa: RUF012 - a fake

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def index(self, name: str) -> int:
        return int(name in self.names)


@pytest.fixture
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Off, with an uplink that learns its route from advertisements."""
    for device in ("all", "eth0"):
        for version, names in (("4", ("accept_redirects",)), ("6", ("accept_redirects", "accept_ra"))):
            directory = tmp_path / f"sys/net/ipv{version}/conf" / device
            directory.mkdir(parents=True)
            for name in names:
                (directory / name).write_text("1\n")
            (directory / "forwarding").write_text("0\n")
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("0\n")
    monkeypatch.setattr(forwarding, "_SYSCTLS", tmp_path / "sys")
    monkeypatch.setattr(forwarding, "USERS", tmp_path / "users.json")
    monkeypatch.setattr(forwarding, "Netlink", Links)
    monkeypatch.setattr(Links, "names", {"one", "two"})
    return tmp_path / "sys"


def values(sysctls: Path) -> dict[str, str]:
    return {str(path.relative_to(sysctls)): path.read_text().strip() for path in sysctls.rglob("*") if path.is_file()}


def test_the_last_user_puts_everything_back(sysctls: Path) -> None:
    before = values(sysctls)
    forwarding.hold("one")
    forwarding.hold("two", ipv6=True)
    now = values(sysctls)
    assert now["net/ipv4/ip_forward"] == now["net/ipv6/conf/all/forwarding"] == "1"
    assert now["net/ipv6/conf/eth0/accept_ra"] == "2"
    (sysctls / "net/ipv4/conf/all/accept_redirects").write_text("0")  # as the kernel does
    forwarding.release("two")
    assert values(sysctls)["net/ipv4/ip_forward"] == "1"
    forwarding.release("one")
    forwarding.release("one")
    assert values(sysctls) == before
    assert not forwarding.USERS.exists()


def test_what_was_on_before_stays_on(sysctls: Path) -> None:
    (sysctls / "net/ipv4/ip_forward").write_text("1")
    before = values(sysctls)
    forwarding.hold("one")
    forwarding.release("one")
    assert values(sysctls) == before


def test_users_without_a_device_are_gone(sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forwarding.hold("one")
    forwarding.hold("two")
    monkeypatch.setattr(Links, "names", set())
    forwarding.release("two")
    assert values(sysctls)["net/ipv4/ip_forward"] == "0"


def test_whoever_is_killed_has_left_a_note(sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(name: str, value: str) -> None:
        (sysctls / name).write_text(value)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(forwarding, "_write", die)
        with pytest.raises(Killed):
            forwarding.hold("one")
    forwarding.hold("one")
    forwarding.release("one")
    assert values(sysctls)["net/ipv4/ip_forward"] == "0"


def test_files_of_earlier_versions_and_torn_ones_are_read(sysctls: Path) -> None:
    (sysctls / "net/ipv4/ip_forward").write_text("1")
    forwarding.USERS.write_text(json.dumps({"before": "0", "one": "user"}) + 'r"}')
    forwarding.release("one")
    assert values(sysctls)["net/ipv4/ip_forward"] == "0"
